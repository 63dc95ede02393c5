"""@rules_cc//cc:defs.bzl for a machine without a network: Bazel 4 has these rules built in."""

# Marks a target whose rule was loaded; --incompatible_load_cc_rules_from_bzl asks for it.
_LOADED = "__CC_RULES_MIGRATION_DO_NOT_USE_WILL_BREAK__"

def _declare(rule, attrs):
    rule(**dict(attrs, tags = (attrs.get("tags") or []) + [_LOADED]))

def cc_binary(**attrs):
    _declare(native.cc_binary, attrs)

def cc_import(**attrs):
    _declare(native.cc_import, attrs)

def cc_library(**attrs):
    _declare(native.cc_library, attrs)

def cc_proto_library(**attrs):
    _declare(native.cc_proto_library, attrs)

def cc_test(**attrs):
    _declare(native.cc_test, attrs)

def cc_toolchain(**attrs):
    _declare(native.cc_toolchain, attrs)

def cc_toolchain_suite(**attrs):
    _declare(native.cc_toolchain_suite, attrs)
