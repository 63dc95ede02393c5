"""Repository rules for libraries installed on the system and for shims of Bazel's own rule sets."""

# The last two: Debian's Open MPI has a folder of its own there, with its headers in it.
_INCLUDE_DIRS = ["/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]

def _system_library_impl(ctx):
    found = [d for d in _INCLUDE_DIRS if ctx.path(d + "/" + ctx.attr.header).exists]
    if not found and not ctx.attr.optional:
        fail("%s: no %s below /usr/include; install %s (`apt-get install %s`, or run ./bazelw)" %
             (ctx.name, ctx.attr.header, ctx.attr.debian_package, ctx.attr.debian_package))

    # Only the header's own top folder: a link to all of /usr/include would shadow the toolchain's.
    if found:
        top = ctx.attr.header.split("/")[0]
        ctx.symlink(found[0] + "/" + top, "include/" + top)
    if ctx.attr.optional:
        ctx.file("found.bzl", "FOUND = %s\n" % bool(found))
    ctx.symlink(ctx.attr.build_file, "BUILD.bazel")

system_library = repository_rule(
    implementation = _system_library_impl,
    attrs = {
        "build_file": attr.label(mandatory = True, allow_single_file = True),
        "debian_package": attr.string(mandatory = True),
        "header": attr.string(mandatory = True, doc = "A header, relative to /usr/include, whose absence means that the library is not installed."),
        "optional": attr.bool(doc = "Its absence is no error: the BUILD file loads FOUND from found.bzl, and its users select()."),
    },
    doc = "A library from the system's package manager, as a repository with a BUILD file of ours.",
    local = True,
)

def _shim_repository_impl(ctx):
    ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % ctx.name)
    lines = ["filegroup(name = \"%s\", visibility = [\"//visibility:public\"])" % t for t in ctx.attr.targets]
    ctx.file("BUILD.bazel", "\n".join(lines) + "\n")
    paths = ctx.attr.files.values()
    for path in paths:
        build_file = path.rpartition("/")[0] + "/BUILD.bazel"
        if build_file not in paths:
            ctx.file(build_file)
    for source, path in ctx.attr.files.items():
        ctx.symlink(source, path)

shim_repository = repository_rule(
    implementation = _shim_repository_impl,
    attrs = {
        "files": attr.label_keyed_string_dict(allow_files = True, doc = "File to link -> its path in the repository, in a folder."),
        "targets": attr.string_list(doc = "Names of empty filegroups."),
    },
    doc = "A few local files and empty targets under the name of a repository that Bazel asks for by name.",
)

def _registry_library_impl(ctx):
    lines = [
        "load(\"@rules_cc//cc:cc_library.bzl\", \"cc_library\")",
        "",
        "package(default_visibility = [\"//visibility:public\"])",
        "",
    ]
    for name, actual in ctx.attr.targets.items():
        if len(actual) == 1 and not ctx.attr.defines:
            lines.append("alias(name = %r, actual = %r)" % (name, actual[0]))
        else:
            lines.append("cc_library(name = %r, defines = %r, deps = %r)" % (name, ctx.attr.defines, actual))
    ctx.file("BUILD.bazel", "\n".join(lines) + "\n")

registry_library = repository_rule(
    implementation = _registry_library_impl,
    attrs = {
        "defines": attr.string_list(doc = "What to define for those who depend on any of the targets."),
        "targets": attr.string_list_dict(mandatory = True, doc = "Target -> targets of other modules that it stands for."),
    },
    doc = "A repository with the targets of a system_library, which stand for other modules' targets.",
)
