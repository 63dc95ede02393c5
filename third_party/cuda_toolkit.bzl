"""Rules for the BUILD file of @strake_cuda.

Not in cuda.bzl, which a WORKSPACE loads before it has a @rules_cc.
"""

load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")

CudaToolkitInfo = provider(
    doc = "Where the CUDA toolkit is, and what to compile for.",
    fields = {
        "architectures": "List of names such as sm_90a.",
        "home": "Absolute path of the folder that holds bin/nvcc, without links.",
    },
)

def _architectures_flag_impl(ctx):
    names = ctx.build_setting_value
    if not names or [n for n in names if not n.startswith("sm_") or not n[3:].rstrip("af").isdigit()]:
        fail("%s: got %r, needs names such as sm_80,sm_90a" % (ctx.label, ",".join(names)))
    return [
        CudaToolkitInfo(architectures = names),
        platform_common.TemplateVariableInfo({"STRAKE_CUDA_ARCHITECTURES": " ".join(names)}),
    ]

architectures_flag = rule(
    implementation = _architectures_flag_impl,
    build_setting = config.string_list(flag = True),
    doc = "GPU architectures to compile for, separated by commas on the command line.",
)

def _cuda_toolkit_impl(ctx):
    if ctx.attr.missing:
        fail(ctx.attr.missing)
    return [
        CudaToolkitInfo(
            architectures = ctx.attr.architectures[CudaToolkitInfo].architectures,
            home = ctx.attr.home,
        ),
        # So that libraries of the toolkit can depend on its being there.
        CcInfo(),
    ]

cuda_toolkit = rule(
    implementation = _cuda_toolkit_impl,
    attrs = {
        "architectures": attr.label(mandatory = True, providers = [CudaToolkitInfo]),
        "home": attr.string(mandatory = True),
        "missing": attr.string(mandatory = True, doc = "The error of using it; empty where the toolkit is."),
    },
)
