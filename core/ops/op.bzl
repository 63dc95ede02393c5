"""What the BUILD files of the ops share."""

load("//core:cc.bzl", "strake_cc_library")

# What every op's sources use besides its own headers.
OP_DEPS = [
    "//core/device:context",
    "//core/memory:activation_arena",
    "//core/ops:dispatch",
    "//core/ops:reference_eigen",
    "//core/ops/cpu:isa",
    "//core/tensor",
    "@strake_absl//:status",
    "@strake_absl//:strings",
    "@strake_glog//:glog",
]

# What every op's test uses besides the op.
OP_TEST_DEPS = [
    "//core/testing:complex_step",
    "//core/testing:test_context",
    "//core/testing:test_tensor",
]

def strake_op_check(name, deps = []):
    """The check case of the op :`name`, <name>_check.h; core/ops/check lists it."""
    strake_cc_library(
        name = name + "_check",
        srcs = [name + "_check.cc"],
        hdrs = [name + "_check.h"],
        deps = deps + [
            ":" + name,
            "//core/device:op_call",
            "//core/ops/check:op_check",
        ],
    )
