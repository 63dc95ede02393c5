"""The repositories of deps.bzl for a MODULE.bazel: Strake's own, and every importer's."""

load("//:deps.bzl", "strake_system_dependencies")
load(":registry.bzl", "REGISTRY_LIBRARIES")
load(":repositories.bzl", "registry_library")

def _strake_libraries_impl(ctx):
    for library in REGISTRY_LIBRARIES:
        registry_library(
            name = library.name,
            defines = library.defines,
            targets = library.targets,
        )
    strake_system_dependencies()

    # What is on the machine is looked up by the repositories, not here.
    return ctx.extension_metadata(reproducible = True)

strake_libraries = module_extension(
    implementation = _strake_libraries_impl,
    doc = "An importer needs it only to set flags: use_repo() makes --@strake_cuda//:use mean something.",
)
