"""gpu_bundle: programs, GPU tests and their libraries in one archive, for a machine without Bazel."""

def _settings_of_the_bundle(_settings, attr):
    return {
        "//command_line_option:compilation_mode": "opt",
        # The machine that runs it is another one, so it is never --copt=-march=native that counts.
        "//command_line_option:copt": ["-march=x86-64-v3"],
        # Else tests come as many shared libraries, found along paths of this machine.
        "//command_line_option:dynamic_mode": "off",
        "//command_line_option:linkopt": [],
        "@strake_cuda//:architectures": attr.architectures,
        "@strake_cuda//:use": True,
        # A library of half a system: ranks are threads there.
        "@strake_openmpi//:use": False,
    }

_bundle_transition = transition(
    implementation = _settings_of_the_bundle,
    inputs = [],
    outputs = [
        "//command_line_option:compilation_mode",
        "//command_line_option:copt",
        "//command_line_option:dynamic_mode",
        "//command_line_option:linkopt",
        "@strake_cuda//:architectures",
        "@strake_cuda//:use",
        "@strake_openmpi//:use",
    ],
)

def _path_in_its_repository(file):
    """short_path is ../REPOSITORY/PATH for a file of a repository that another one imports."""
    path = file.short_path
    return path.split("/", 2)[2] if path.startswith("../") else path

def _places_of_program(target):
    """[(file, its place in the bundle)] of a program and the data it looks for beside itself."""
    program = target[DefaultInfo].files_to_run.executable
    place = "bin/" + program.basename
    data = target[DefaultInfo].default_runfiles.files.to_list()
    return [(program, place)] + [
        (file, "%s.runfiles/strake/%s" % (place, _path_in_its_repository(file)))
        for file in data
        if file != program
    ]

def _gpu_bundle_impl(ctx):
    places = [(target.files.to_list()[0], place) for target, place in ctx.attr.files.items()]
    for program in ctx.attr.programs:
        places += _places_of_program(program)
    places += [(test, "gpu_tests/" + test.basename) for test in ctx.files.gpu_tests]

    archive = ctx.actions.declare_file(ctx.label.name + ".tar.gz")
    manifest = ctx.actions.declare_file(ctx.label.name + ".manifest")
    ctx.actions.write(manifest, "".join(["%s\t%s\n" % (f.path, place) for f, place in places]))
    ctx.actions.run(
        executable = ctx.executable._pack,
        arguments = [manifest.path, ctx.info_file.path, archive.path],
        inputs = [manifest, ctx.info_file] + [f for f, _ in places],
        outputs = [archive],
        # Programs of the system read the programs' needs, and pack them.
        env = {"PATH": "/usr/bin:/bin"},
        mnemonic = "GpuBundle",
        progress_message = "Packing %s" % archive.short_path,
    )
    return [DefaultInfo(files = depset([archive]), runfiles = ctx.runfiles([archive]))]

gpu_bundle = rule(
    implementation = _gpu_bundle_impl,
    attrs = {
        "architectures": attr.string_list(
            default = ["sm_90a"],
            doc = "GPUs to compile for, whatever the command line says.",
        ),
        "files": attr.label_keyed_string_dict(
            allow_files = True,
            doc = "Other files, and their places.",
        ),
        "gpu_tests": attr.label_list(
            cfg = _bundle_transition,
            doc = "Test binaries without data; each needs a GPU in all of its cases.",
        ),
        "programs": attr.label_list(cfg = _bundle_transition),
        "_allowlist_function_transition": attr.label(
            default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
        ),
        "_pack": attr.label(
            allow_single_file = True,
            cfg = "exec",
            default = "//tools:gpu_bundle/pack.sh",
            executable = True,
        ),
    },
    doc = "NAME.tar.gz: `files`, programs below bin, tests below gpu_tests, and below lib every " +
          "shared library they need that is neither the C library's nor CUDA's. The label of the " +
          "build (--embed_label) is its commit.",
)
