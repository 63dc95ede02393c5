"""cuDNN's C++ graph interface, @strake_cudnn_frontend: headers only, whether or not they are there."""

# Where cuDNN's own headers may be, besides the toolkit's folder.
_CUDNN_DIRS = ["/usr/local/cuda/include", "/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu"]

def _frontend_dir(ctx):
    """Where bazelw puts the headers, or the user has them."""
    named = ctx.os.environ.get("STRAKE_CUDNN_FRONTEND")
    if named:
        return named
    cache = ctx.os.environ.get("XDG_CACHE_HOME") or ctx.os.environ.get("HOME", "") + "/.cache"
    return "%s/strake/cudnn-frontend-%s" % (cache, ctx.attr.version)

def _cudnn_frontend_repository_impl(ctx):
    frontend = _frontend_dir(ctx)
    home = ctx.os.environ.get("CUDA_HOME")
    cudnn = [
        d
        for d in ([home + "/include"] if home else []) + _CUDNN_DIRS
        if ctx.path(d + "/cudnn.h").exists
    ]
    found = bool(cudnn) and ctx.path(frontend + "/include/cudnn_frontend.h").exists
    if found:
        ctx.symlink(frontend + "/include", "include")

        # Only cuDNN's: a link to all of /usr/include would shadow the toolchain's.
        for header in ctx.path(cudnn[0]).readdir():
            if header.basename.startswith("cudnn"):
                ctx.symlink(header, "cudnn/" + header.basename)

    # Loading must not fail: every build reads the flag of this repository.
    ctx.file("found.bzl", "FOUND = %s\n" % found)
    ctx.symlink(ctx.attr.build_file, "BUILD.bazel")

cudnn_frontend_repository = repository_rule(
    implementation = _cudnn_frontend_repository_impl,
    attrs = {
        "build_file": attr.label(mandatory = True, allow_single_file = True),
        "version": attr.string(mandatory = True),
    },
    doc = "The headers that ./bazelw installs, or those of $STRAKE_CUDNN_FRONTEND/include, and cuDNN's. " +
          "Where there are none, attention is built without cuDNN.",
    # bazelw sets the first once it has the headers, so that a running server sees them.
    environ = ["STRAKE_CUDNN_FRONTEND", "XDG_CACHE_HOME", "HOME", "CUDA_HOME"],
    local = True,
)
