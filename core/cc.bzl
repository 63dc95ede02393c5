"""Rules for Strake's C++ targets: cc_* of @rules_cc with our language version and warnings.

The options stand on the targets, so that an importer needs none of Strake's .bazelrc.
"""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")

_COPTS = [
    "-std=c++20",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-sign-compare",
    # gcc 12 reports these inside Eigen and abseil at -O3, wrongly.
    "-Wno-array-bounds",
    "-Wno-maybe-uninitialized",
    "-Wno-stringop-overflow",
]

# For loops over tensors. No -ffast-math: it would drop NaN, and infinities mark masked scores.
NUMERIC_COPTS = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
]

def strake_cc_library(name, copts = [], **kwargs):
    """A cc_library under Strake's copts."""
    cc_library(name = name, copts = _COPTS + copts, **kwargs)

def strake_cc_binary(name, copts = [], **kwargs):
    """A cc_binary under Strake's copts."""
    cc_binary(name = name, copts = _COPTS + copts, **kwargs)

def strake_cc_test(name, size = "small", copts = [], deps = [], **kwargs):
    """A GoogleTest under Strake's copts; main() comes from GoogleTest."""
    cc_test(
        name = name,
        size = size,
        copts = _COPTS + copts,
        deps = deps + ["@strake_googletest//:gtest_main"],
        **kwargs
    )

def strake_cc_benchmark(name, copts = [], deps = [], **kwargs):
    """A Google Benchmark binary: `bazel run` it; no test runs it."""
    cc_binary(
        name = name,
        testonly = True,
        copts = _COPTS + copts,
        tags = ["benchmark"],
        deps = deps + ["@strake_benchmark//:benchmark_main"],
        **kwargs
    )
