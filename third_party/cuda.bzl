"""The CUDA toolkit as a repository, @strake_cuda, whether or not there is one on this machine."""

CudaToolkitInfo = provider(
    doc = "Where the CUDA toolkit is, and what to compile for.",
    fields = {
        "architectures": "List of names such as sm_90a.",
        "home": "Absolute path of the folder that holds bin/nvcc, without links.",
    },
)

def _version(path):
    """The numbers of cuda-13.0, for sorting; 0 for what is none."""
    return [int(part) if part.isdigit() else 0 for part in path.basename[len("cuda-"):].split(".")]

def _candidates(ctx):
    home = ctx.os.environ.get("CUDA_HOME")
    if home:
        return [ctx.path(home)]
    versioned = [p for p in ctx.path("/usr/local").readdir() if p.basename.startswith("cuda-")]
    return ([ctx.path("/usr/local/cuda")] +
            sorted(versioned, key = _version, reverse = True) +
            [ctx.path("/opt/cuda")])

def _cuda_repository_impl(ctx):
    candidates = _candidates(ctx)
    found = [c for c in candidates if c.get_child("bin").get_child("nvcc").exists]
    home, missing = "", ""
    if found:
        home = str(found[0].realpath)
        ctx.symlink(home + "/include", "include")
        libraries = [d for d in ["lib64", "lib"] if ctx.path(home + "/" + d).exists]
        ctx.symlink(home + "/" + libraries[0], "lib")
    else:
        missing = ("no CUDA toolkit: there is no bin/nvcc in %s; set CUDA_HOME to the folder " +
                   "that holds it, or build without --config=cuda") % ", ".join([str(c) for c in candidates])

    # Loading must not fail: every build reads the flags of this repository.
    ctx.file("toolkit.bzl", "HOME = %r\nMISSING = %r\n" % (home, missing))
    ctx.symlink(ctx.attr.build_file, "BUILD.bazel")

cuda_repository = repository_rule(
    implementation = _cuda_repository_impl,
    attrs = {"build_file": attr.label(mandatory = True, allow_single_file = True)},
    doc = "The toolkit of $CUDA_HOME, else of /usr/local/cuda, /usr/local/cuda-* or /opt/cuda. " +
          "Where there is none, only targets that need it fail.",
    environ = ["CUDA_HOME"],
    local = True,
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
