"""Build settings that a config_setting of an external library can look at."""

def _bool_flag_impl(_ctx):
    return []

bool_flag = rule(
    implementation = _bool_flag_impl,
    build_setting = config.bool(flag = True),
    doc = "A flag of the command line that is true or false.",
)
