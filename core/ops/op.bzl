"""Dependencies that the ops share."""

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
