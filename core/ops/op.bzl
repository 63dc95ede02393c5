"""What the BUILD files of the ops share."""

load("//core:cc.bzl", "strake_cc_library")

# Dependencies of every op's sources besides its own headers.
OP_DEPS = [
    Label("//core/device:context"),
    Label("//core/memory:activation_arena"),
    Label("//core/ops:dispatch"),
    Label("//core/ops:reference_eigen"),
    Label("//core/ops/cpu:isa"),
    Label("//core/tensor"),
    Label("@strake_absl//:status"),
    Label("@strake_absl//:strings"),
    Label("@strake_glog//:glog"),
]

# Dependencies of every op's test besides the op.
OP_TEST_DEPS = [
    Label("//core/testing:complex_step"),
    Label("//core/testing:test_context"),
    Label("//core/testing:test_tensor"),
]

def strake_op_check(name, deps = []):
    """The check case of the op :`name`, <name>_check.h; core/ops/check lists it."""
    strake_cc_library(
        name = name + "_check",
        srcs = [name + "_check.cc"],
        hdrs = [name + "_check.h"],
        deps = deps + [
            ":" + name,
            Label("//core/device:op_call"),
            Label("//core/ops/check:op_check"),
        ],
    )
