"""Rules for Strake's C++ targets: cc_* of @rules_cc with our language version and warnings.

The options stand on the targets, so that an importer needs none of Strake's .bazelrc.
"""

load("@rules_cc//cc:cc_binary.bzl", "cc_binary")
load("@rules_cc//cc:cc_library.bzl", "cc_library")
load("@rules_cc//cc:cc_test.bzl", "cc_test")

COPTS = [
    "-std=c++20",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-sign-compare",
    # gcc 12 reports these wrongly, inside Eigen, abseil and std::string.
    "-Wno-array-bounds",
    "-Wno-maybe-uninitialized",
    "-Wno-stringop-overflow",
    "-Wno-stringop-overread",
    # clang does not know all of these names.
    "-Wno-unknown-warning-option",
]

# For loops over tensors. Excludes -ffast-math, which drops NaN and infinities: infinities mark
# masked scores.
NUMERIC_COPTS = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
]

# For tests, which take longer to compile than to run. A target's own copts come after these, and
# may ask for more.
TEST_COPTS = ["-O1"]

# The sets of vector instructions that the CPU's kernels are compiled for (core/ops/cpu/isa.h). They
# come after the command line's --copt, so that these -march take effect.
_ISAS = {
    "avx2": (32, "x86-64-v3"),
    "avx512": (64, "x86-64-v4"),
}

# Of --define=strake_precompiled_headers=true, in a form that select() of Bazel 4 takes.
_PRECOMPILED_HEADERS = str(Label("//third_party:use_precompiled_headers"))

def _copts_to_read(header):
    return select({
        _PRECOMPILED_HEADERS: ["-include", "third_party/%s.h" % header],
        "//conditions:default": [],
    })

def _deps_to_read(header):
    return select({
        _PRECOMPILED_HEADERS: [str(Label("//third_party:" + header))],
        "//conditions:default": [],
    })

def strake_cc_library(name, copts = [], deps = [], numeric = False, headers = None, **kwargs):
    """A cc_library under Strake's copts.

    Args:
      numeric: whether it has loops over tensors: NUMERIC_COPTS.
      headers: what its sources read first where headers are precompiled, of //third_party; "none" if
        they are compiled with other options than these headers. Sources include what they use all the
        same: an importer's build precompiles nothing.
    """
    if numeric:
        copts = NUMERIC_COPTS + copts
    if not headers:
        headers = "numeric_headers" if numeric else "common_headers"
    if headers != "none" and "srcs" in kwargs:
        copts = copts + _copts_to_read(headers)
        deps = deps + _deps_to_read(headers)
    cc_library(name = name, copts = COPTS + copts, deps = deps, **kwargs)

def strake_cpu_kernel(name, deps = []):
    """A kernel for the CPU, NAME_cpu.cc and .h, as NAME_cpu: compiled for each set of instructions.

    core/ops/cpu/isa.h says how such a source is written.
    """
    for isa in _ISAS:
        strake_cc_library(
            name = "%s_cpu_%s" % (name, isa),
            srcs = [name + "_cpu.cc", name + "_cpu.h"],
            copts = _isa_copts(isa, _ISAS[isa][1]),
            headers = "none",
            visibility = ["//visibility:private"],
            deps = deps + [Label("//core/ops/cpu:isa"), Label("//core/ops/cpu:simd")],
        )
    strake_cc_library(
        name = name + "_cpu",
        hdrs = [name + "_cpu.h"],
        deps = deps + [Label("//core/ops/cpu:isa")] + [":%s_cpu_%s" % (name, isa) for isa in _ISAS],
    )

def strake_cpu_kernel_test(name, srcs, deps):
    """A GoogleTest of what is written in core/ops/cpu/simd.h, for each set of instructions' vectors.

    Compiled for AVX2, of whose vectors the compiler makes wider ones: any machine runs it.
    """
    for isa in _ISAS:
        strake_cc_test(
            name = "%s_%s" % (name, isa),
            srcs = srcs,
            copts = _isa_copts(isa, _ISAS["avx2"][1]),
            deps = deps + [Label("//core/ops/cpu:isa"), Label("//core/ops/cpu:simd")],
        )

def _isa_copts(isa, march):
    # The copts of a source that includes core/ops/cpu/simd.h.
    return NUMERIC_COPTS + [
        "-march=" + march,
        "-DSTRAKE_CPU_ISA=" + isa,
        "-DSTRAKE_CPU_VECTOR_BYTES=%d" % _ISAS[isa][0],
        # Callers never pass vectors wider than their registers, so no ABI changes.
        "-Wno-psabi",
    ]

def strake_cc_binary(name, copts = [], deps = [], **kwargs):
    """A cc_binary under Strake's copts."""
    cc_binary(
        name = name,
        copts = COPTS + copts + _copts_to_read("common_headers"),
        deps = deps + _deps_to_read("common_headers"),
        **kwargs
    )

def strake_cc_test(name, srcs = [], size = "small", copts = [], deps = [], **kwargs):
    """A GoogleTest under Strake's copts; main() comes from GoogleTest.

    Several `*_test.cc` are compiled as one unit, which reads the headers that they share once. Names
    in their anonymous namespaces must then differ.
    """
    tests = [src for src in srcs if src.endswith("_test.cc")]
    if len(tests) > 1:
        written_source(
            name = name + "_unit",
            testonly = True,
            includes = ["%s/%s" % (native.package_name(), test) for test in tests],
        )
        strake_cc_library(
            name = name + "_sources",
            testonly = True,
            textual_hdrs = tests,
            visibility = ["//visibility:private"],
        )
        srcs = [src for src in srcs if src not in tests] + [name + "_unit"]
        deps = deps + [":%s_sources" % name]
    cc_test(
        name = name,
        size = size,
        srcs = srcs,
        copts = COPTS + TEST_COPTS + copts + (_copts_to_read("test_headers") if srcs else []),
        deps = deps + [Label("@strake_googletest//:gtest_main")] +
               (_deps_to_read("test_headers") if srcs else []),
        **kwargs
    )

def strake_fuzz_test(name, srcs, deps = [], corpus = [], size = "small", copts = [], tags = [], **kwargs):
    """A fuzz target: sources that define LLVMFuzzerTestOneInput(data, size).

    Makes the test `name`, which feeds it the corpus files and a fixed sequence of mutations of
    them, and the binary `name_libfuzzer`, which searches for new inputs for as long as it is let:
    `bazel run --config=fuzz //pkg:name_libfuzzer -- -max_total_time=60 FOLDER_OF_THE_CORPUS`.
    """
    cc_test(
        name = name,
        size = size,
        srcs = srcs,
        args = ["$(rootpath %s)" % file for file in corpus],
        copts = COPTS + copts,
        data = corpus,
        # .ci/run runs these tests under sanitizers.
        tags = tags + ["parser"],
        deps = deps + [Label("//core/testing:fuzz_main")],
        **kwargs
    )
    cc_binary(
        name = name + "_libfuzzer",
        testonly = True,
        srcs = srcs,
        copts = COPTS + copts,
        # Needs clang, and the instrumentation of --config=fuzz.
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = deps,
        **kwargs
    )

def _written_source_impl(ctx):
    source = ctx.actions.declare_file(ctx.label.name + ".cc")
    lines = ["#include \"%s\"" % path for path in ctx.attr.includes] + [ctx.attr.content]
    ctx.actions.write(source, "\n".join(lines))
    return [DefaultInfo(files = depset([source]))]

written_source = rule(
    implementation = _written_source_impl,
    attrs = {
        "content": attr.string(),
        "includes": attr.string_list(doc = "Paths from the root."),
    },
    doc = "The source NAME.cc of #includes and content.",
)

def strake_emulated_kernel(name, src, hdrs = [], deps = [], **kwargs):
    """A kernel's .cu file compiled as C++, to be run by core/testing/cuda_emulator.h in tests.

    It defines what the kernel's CUDA library defines, NAME_cuda: a binary that links both statically,
    and this one first, has this one's.
    """
    # cc_library does not compile a .cu file, but it compiles a source that includes one.
    written_source(
        name = name + "_unit",
        testonly = True,
        includes = ["%s/%s" % (native.package_name(), src)],
    )
    strake_cc_library(
        name = name,
        testonly = True,
        srcs = [name + "_unit"],
        hdrs = hdrs,
        # #pragma unroll belongs to nvcc.
        copts = ["-Wno-unknown-pragmas"],
        numeric = True,
        textual_hdrs = [src],
        deps = deps + [Label("//core/cuda:portable")],
        # Links all of it, so that nothing is left for NAME_cuda to define.
        alwayslink = True,
        **kwargs
    )

def strake_cc_benchmark(name, copts = [], deps = [], **kwargs):
    """A Google Benchmark binary: `bazel run` it; no test runs it."""
    cc_binary(
        name = name,
        testonly = True,
        copts = COPTS + copts,
        tags = ["benchmark"],
        deps = deps + [Label("@strake_benchmark//:benchmark_main")],
        **kwargs
    )
