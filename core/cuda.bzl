"""Rules for CUDA sources: cuda_library compiles .cu files, strake_cuda_kernel is what an op uses."""

load("@rules_cc//cc:action_names.bzl", "CPP_COMPILE_ACTION_NAME")
load("@rules_cc//cc:find_cc_toolchain.bzl", "find_cc_toolchain", "use_cc_toolchain")
load("@rules_cc//cc/common:cc_common.bzl", "cc_common")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")
load("@strake//third_party:cuda_toolkit.bzl", "CudaToolkitInfo")
load(
    "//core:cc.bzl",
    "TEST_COPTS",
    "strake_cc_binary",
    "strake_cc_library",
    "strake_cc_test",
    "strake_emulated_kernel",
    "written_source",
)

# A Label, so that it means the same in an importer's package; select() of Bazel 4 takes no Label.
_CUDA_USED = str(Label("@strake_cuda//:used"))

_NVCC_OPTIONS = [
    "-std=c++20",
    "-O3",
    # a * b + c is one rounding, which is nvcc's default, and gcc's on CPUs with FMA. Where the two
    # roundings matter, use __fmul_rn. Never use --use_fast_math: subnormals must not be flushed to
    # zero, and division and square root must be rounded to nearest.
    "--fmad=true",
    "--ftz=false",
    "--prec-div=true",
    "--prec-sqrt=true",
    "--Werror=all-warnings",
    "-Xcompiler=-fPIC,-Wall,-Werror",
    # Registers, spills and shared memory of each kernel, for the output group "ptxas".
    "-Xptxas=-v",
]

# LOG COMMAND...: runs the command with its messages in LOG, and prints them only where it fails.
_LOGGED = """
log=$1; shift
"$@" 2> "$log" || { status=$?; cat "$log" >&2; exit $status; }
"""

def _compile(ctx, toolkit, cc_toolchain, features, context, src):
    """Runs nvcc on `src`; its object file, and what it says about the kernels."""
    name = src.basename[:-len(src.extension) - 1]
    output = ctx.actions.declare_file("_nvcc/%s/%s.pic.o" % (ctx.label.name, name))
    ptxas = ctx.actions.declare_file("_nvcc/%s/%s.ptxas" % (ctx.label.name, name))
    args = ctx.actions.args()
    args.add(ptxas)
    args.add(toolkit.home + "/bin/nvcc")
    args.add_all(["-c", src, "-o", output])
    args.add("-ccbin", cc_common.get_tool_for_action(
        feature_configuration = features,
        action_name = CPP_COMPILE_ACTION_NAME,
    ))
    args.add_all(_NVCC_OPTIONS)
    for name in toolkit.architectures:
        args.add("-gencode=arch=compute_%s,code=%s" % (name[len("sm_"):], name))
    args.add("-DSTRAKE_CUDA_ARCHITECTURES=\"%s\"" % ", ".join(toolkit.architectures))
    args.add_all(context.defines, before_each = "-D")
    args.add_all(context.includes, before_each = "-I")
    args.add_all(context.quote_includes, before_each = "-I")
    args.add_all(context.system_includes, before_each = "-isystem")

    # Include paths of other modules' libraries. Bazel 4 has no such list.
    args.add_all(getattr(context, "external_includes", depset()), before_each = "-isystem")
    ctx.actions.run_shell(
        command = _LOGGED,
        arguments = [args],
        inputs = depset([src], transitive = [context.headers, cc_toolchain.all_files]),
        outputs = [output, ptxas],
        # nvcc and the host compiler find their own parts by PATH.
        env = {"PATH": toolkit.home + "/bin:/usr/bin:/bin"},
        mnemonic = "CudaCompile",
        progress_message = "Compiling %s for %s" % (src.short_path, ", ".join(toolkit.architectures)),
    )
    return output, ptxas

def _cuda_library_impl(ctx):
    toolkit = ctx.attr._toolkit[CudaToolkitInfo]
    cc_toolchain = find_cc_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = cc_toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    deps = cc_common.merge_cc_infos(
        direct_cc_infos = [dep[CcInfo] for dep in ctx.attr.deps + [ctx.attr._cudart]],
    )
    own = cc_common.create_compilation_context(
        headers = depset(ctx.files.hdrs),
        # Relative to the root of the target's workspace, as in cc_library.
        quote_includes = depset([ctx.label.workspace_root or ".", ctx.bin_dir.path]),
    )
    context = cc_common.merge_cc_infos(
        direct_cc_infos = [CcInfo(compilation_context = own)],
        cc_infos = [deps],
    ).compilation_context
    compiled = [
        _compile(ctx, toolkit, cc_toolchain, features, context, src)
        for src in ctx.files.srcs
    ]
    objects = [output for output, _ in compiled]
    linking, outputs = cc_common.create_linking_context_from_compilation_outputs(
        actions = ctx.actions,
        feature_configuration = features,
        cc_toolchain = cc_toolchain,
        compilation_outputs = cc_common.create_compilation_outputs(
            objects = depset(objects),
            pic_objects = depset(objects),
        ),
        linking_contexts = [deps.linking_context],
        name = ctx.label.name,
        # A process has one copy of the CUDA runtime, which is in the executable.
        disallow_dynamic_library = True,
    )
    libraries = [outputs.library_to_link.static_library, outputs.library_to_link.pic_static_library]
    return [
        DefaultInfo(files = depset([library for library in libraries if library])),
        CcInfo(compilation_context = context, linking_context = linking),
        OutputGroupInfo(ptxas = depset([ptxas for _, ptxas in compiled])),
    ]

cuda_library = rule(
    implementation = _cuda_library_impl,
    attrs = {
        "deps": attr.label_list(providers = [CcInfo]),
        "hdrs": attr.label_list(allow_files = [".h", ".cuh"]),
        "srcs": attr.label_list(allow_files = [".cu"], mandatory = True),
        "_cc_toolchain": attr.label(default = "@rules_cc//cc:current_cc_toolchain"),
        "_cudart": attr.label(default = "@strake_cuda//:cudart", providers = [CcInfo]),
        "_toolkit": attr.label(default = "@strake_cuda//:toolkit", providers = [CudaToolkitInfo]),
    },
    doc = "A library of .cu files, each compiled by one run of nvcc for the architectures of " +
          "--@strake_cuda//:architectures, without the command line's --copt. Linked with the " +
          "CUDA runtime; stands where a cc_library stands.",
    fragments = ["cpp"],
    toolchains = use_cc_toolchain(),
)

_PtxasInfo = provider(doc = "What nvcc says about kernels.", fields = ["files"])

def _ptxas_aspect_impl(target, ctx):
    own = []
    if OutputGroupInfo in target and hasattr(target[OutputGroupInfo], "ptxas"):
        own = [target[OutputGroupInfo].ptxas]
    deps = [dep[_PtxasInfo].files for dep in getattr(ctx.rule.attr, "deps", [])]
    return [_PtxasInfo(files = depset(transitive = own + deps))]

_ptxas_aspect = aspect(implementation = _ptxas_aspect_impl, attr_aspects = ["deps"])

def _ptxas_output_impl(ctx):
    files = depset(transitive = [dep[_PtxasInfo].files for dep in ctx.attr.deps])
    output = ctx.actions.declare_file(ctx.label.name)
    args = ctx.actions.args()
    args.add(output)
    args.add_all(files)
    ctx.actions.run_shell(
        command = "output=$1; shift; cat /dev/null \"$@\" > \"$output\"",
        arguments = [args],
        inputs = files,
        outputs = [output],
        mnemonic = "PtxasOutput",
    )
    return [DefaultInfo(files = depset([output]), runfiles = ctx.runfiles([output]))]

ptxas_output = rule(
    implementation = _ptxas_output_impl,
    attrs = {"deps": attr.label_list(aspects = [_ptxas_aspect])},
    doc = "The file NAME: what `nvcc -Xptxas=-v` says about the kernels below `deps`. Empty where " +
          "there are none, as in a build without CUDA.",
)

def _link_only_impl(ctx):
    infos = [dep[CcInfo] for dep in ctx.attr.deps]
    return [CcInfo(linking_context = cc_common.merge_cc_infos(cc_infos = infos).linking_context)]

link_only = rule(
    implementation = _link_only_impl,
    attrs = {"deps": attr.label_list(providers = [CcInfo])},
    doc = "What stands behind a library's headers, without its own dependencies' headers: whoever " +
          "includes the former compiles the same with CUDA as without, and once for both.",
)

def strake_cuda_kernel(name, deps = []):
    """The CUDA kernels of an op: NAME_cuda.h, which lists them in STRAKE_NAME_KERNELS, and .cu.

    Makes
      NAME_cuda      the header, with the kernels under --config=cuda, else with functions that
                     return an error, generated from the list (core/cuda/kernel_list.h)
      NAME_emulated  the same header with the kernels compiled as C++, for tests; a binary links one
                     of the two
    """
    header = name + "_cuda.h"
    source = name + "_cuda.cu"
    deps = deps + [
        Label("//core/base:dtype"),
        Label("//core/cuda:kernel_list"),
        Label("//core/cuda:stream"),
        Label("//core/ops/cuda:kernel_parts"),
        Label("//core/ops/cuda:workspace_sizes"),
        Label("@strake_absl//:status"),
    ]
    cuda_library(
        name = name + "_nvcc",
        srcs = [source],
        hdrs = [header],
        # Built through NAME_cuda, and only if a toolkit is configured.
        tags = ["manual"],
        visibility = ["//visibility:private"],
        deps = deps + [Label("//core/cuda:portable_nvcc")],
    )
    link_only(
        name = name + "_nvcc_link",
        tags = ["manual"],
        visibility = ["//visibility:private"],
        deps = [":%s_nvcc" % name],
    )
    written_source(
        name = name + "_no_cuda",
        content = """
namespace strake::cuda {
STRAKE_%s_KERNELS(STRAKE_ABSENT_KERNEL)
}  // namespace strake::cuda
""" % name.upper(),
        includes = [
            "core/cuda/kernel_list.h",
            "core/cuda/no_cuda.h",
            native.package_name() + "/" + header,
        ],
    )
    strake_cc_library(
        name = name + "_absent",
        srcs = [
            header,
            ":%s_no_cuda" % name,
        ],
        visibility = ["//visibility:private"],
        deps = deps + [Label("//core/cuda:no_cuda")],
    )
    link_only(
        name = name + "_absent_link",
        visibility = ["//visibility:private"],
        deps = [":%s_absent" % name],
    )
    strake_cc_library(
        name = name + "_cuda",
        hdrs = [header],
        deps = deps + select({
            _CUDA_USED: [":%s_nvcc_link" % name],
            "//conditions:default": [":%s_absent_link" % name],
        }),
    )
    strake_emulated_kernel(
        name = name + "_emulated",
        src = source,
        hdrs = [header],
        deps = deps,
    )

def _emulator_and_gpu_test(name, srcs, deps, emulated, gpu, copts = [], tags = [], **kwargs):
    """Compiles `srcs` once and links them twice: NAME_emulator_test and NAME_gpu_test.

    `emulated` comes first in its test, so that its definitions are taken, not those of the deps.
    """
    strake_cc_library(
        name = name + "_test_cases",
        testonly = True,
        srcs = srcs,
        copts = TEST_COPTS + copts,
        visibility = ["//visibility:private"],
        headers = "test_headers",
        deps = deps + [Label("@strake_googletest//:gtest")],
        alwayslink = True,
    )
    strake_cc_test(
        name = name + "_emulator_test",
        linkstatic = True,
        tags = tags + ["no_tsan"],  # fibres
        deps = [emulated, ":%s_test_cases" % name],
        **kwargs
    )
    strake_cc_test(
        name = name + "_gpu_test",
        # Bazel must not cache results, because another day's machine may have another GPU.
        tags = tags + ["external", "gpu"],
        deps = [gpu, ":%s_test_cases" % name],
        **kwargs
    )

def strake_cuda_kernel_test(name, srcs = [], copts = [], deps = [], **kwargs):
    """The test NAME_kernel_test.cc of strake_cuda_kernel NAME, twice.

    NAME_emulator_test runs the kernels on the CPU; NAME_gpu_test runs the same cases on a GPU, and
    skips them where there is none. Tensors are GuardedBuffers.
    """
    _emulator_and_gpu_test(
        name = name,
        srcs = srcs + [name + "_kernel_test.cc"],
        copts = copts,
        deps = deps + [
            ":%s_cuda" % name,
            Label("//core/testing:cuda_emulator"),
            Label("//core/testing:guarded_buffer"),
        ],
        emulated = ":%s_emulated" % name,
        gpu = Label("//core/testing:gpu_kernel_test"),
        **kwargs
    )

def strake_gpu_test(name, srcs, deps, **kwargs):
    """A test of what runs on a GPU through the ops, twice.

    NAME_emulator_test has the emulated GPU; NAME_gpu_test runs the same cases on a GPU, and skips
    them where there is none.
    """
    _emulator_and_gpu_test(
        name = name,
        srcs = srcs,
        deps = deps,
        emulated = Label("//core/testing:emulated_gpu"),
        gpu = Label("//core/testing:every_test_requires_gpu"),
        **kwargs
    )

def strake_gpu_program(name, deps, visibility = None, **kwargs):
    """A program that runs on GPUs, and NAME_emulated, the same with the emulated GPU, for tests.

    `visibility` is that of the former.
    """
    strake_cc_binary(name = name, deps = deps, visibility = visibility, **kwargs)
    strake_cc_binary(
        name = name + "_emulated",
        testonly = True,
        # First, so that the linker takes its definitions.
        deps = [Label("//core/testing:emulated_gpu")] + deps,
        **kwargs
    )

def strake_gpu_tests(name = "gpu_tests", packages = []):
    """The programs of all tests of this BUILD file, above this line, that have the tag "gpu".

    Those of `packages`, whose BUILD files say the same, come along.
    """
    native.filegroup(
        name = name,
        testonly = True,
        srcs = ["%s:gpu_tests" % package for package in packages] + [
            test
            for test, rule in native.existing_rules().items()
            if rule["kind"] == "cc_test" and "gpu" in rule["tags"]
        ],
    )
