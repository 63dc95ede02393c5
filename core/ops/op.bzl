"""What the BUILD files of the ops share."""

load(
    "//core:cc.bzl",
    "strake_cc_benchmark",
    "strake_cc_library",
    "strake_cc_test",
    "strake_cpu_kernel",
)
load("//core:cuda.bzl", "strake_cuda_kernel", "strake_cuda_kernel_test")

# Dependencies of every op's sources besides its own headers.
OP_DEPS = [
    Label("//core/base:dtype"),
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

def strake_op_library(name, srcs, hdrs, copts = [], deps = [], c128_deps = []):
    """The op NAME, which is public, and NAME_c128, which takes complex numbers too.

    Complex numbers are the complex step's, and take a quarter of an op's compile time. Where a test
    links both libraries, NAME_c128 comes first: the linker takes its definitions, and none of NAME's.

    Args:
      c128_deps: NAME_c128 of the ops that this one calls
    """
    strake_cc_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        copts = copts,
        numeric = True,
        visibility = ["//visibility:public"],
        deps = OP_DEPS + deps,
    )
    strake_cc_library(
        name = name + "_c128",
        testonly = True,
        srcs = srcs,
        hdrs = hdrs,
        copts = copts + ["-DSTRAKE_C128"],
        numeric = True,
        deps = c128_deps + OP_DEPS + deps,
        # Links all of it, so that nothing is left for NAME to define.
        alwayslink = True,
    )

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

def strake_op(
        name,
        args = [],
        deps = [],
        reference_deps = [],
        test_deps = [],
        check_deps = [],
        benchmark_deps = [],
        kernel_test_copts = [],
        cpu_kernel = True):
    """An op whose parts are all in files of its name: docs/architecture.md, "One op, one folder".

    Makes NAME and NAME_c128 (strake_op_library), NAME_reference, NAME_test, NAME_benchmark,
    NAME_check, the CPU kernel (strake_cpu_kernel), the CUDA kernel and its test (strake_cuda_kernel, strake_cuda_kernel_test).

    args            libraries of the arguments that kernels and reference take
    deps            what NAME.cc and NAME.h use besides
    reference_deps  what NAME_reference.h uses besides
    test_deps       what NAME_test.cc uses besides
    check_deps      what NAME_check.cc uses besides
    benchmark_deps  what NAME_benchmark.cc uses besides
    cpu_kernel      False where the reference, or another op's kernel, serves the CPU
    """
    strake_cc_library(
        name = name + "_reference",
        hdrs = [name + "_reference.h"],
        deps = args + reference_deps + [Label("//core/ops:reference_eigen")],
    )
    strake_op_library(
        name = name,
        srcs = [name + ".cc"],
        hdrs = [name + ".h"],
        deps = args + deps + [
            ":%s_cuda" % name,
            ":%s_reference" % name,
        ] + ([":%s_cpu" % name] if cpu_kernel else []),
    )
    strake_cc_test(
        name = name + "_test",
        srcs = [name + "_test.cc"],
        deps = [":%s_c128" % name] + test_deps + OP_TEST_DEPS,
    )
    strake_cc_benchmark(
        name = name + "_benchmark",
        srcs = [name + "_benchmark.cc"],
        deps = [":" + name] + benchmark_deps + OP_TEST_DEPS,
    )
    if cpu_kernel:
        strake_cpu_kernel(
            name = name,
            deps = args + [Label("//core/base:dtype")],
        )
    strake_cuda_kernel(
        name = name,
        deps = args,
    )
    strake_cuda_kernel_test(
        name = name,
        copts = kernel_test_copts,
        deps = args + [
            ":%s_reference" % name,
            Label("//core/base:dtype"),
            Label("//core/base:philox"),
            Label("//core/testing:kernel_test_util"),
        ],
    )
    strake_op_check(
        name = name,
        deps = check_deps,
    )
