"""External dependencies of Strake; its own WORKSPACE and every importer's call strake_dependencies()."""

load("//third_party:cuda.bzl", "cuda_repository")
load("//third_party:cudnn_frontend.bzl", "cudnn_frontend_repository")
load("//third_party:repositories.bzl", "shim_repository", "system_library")

# Of pip's package nvidia-cudnn-frontend, which bazelw installs by this line.
CUDNN_FRONTEND_VERSION = "1.32.0"

def strake_dependencies():
    """Declares every external repository that Strake's targets use.

    Nothing is downloaded: libraries come from the system (the error for a missing one names its
    Debian package), and the rule sets that Bazel itself asks for are local shims. A repository
    that the caller has declared already is left as it is.
    """
    _shim("rules_cc", {"cc/defs.bzl": "@strake//third_party/shims:cc_defs.bzl"})
    _shim("rules_java", {"java/defs.bzl": "@strake//third_party/shims:java_defs.bzl"})
    _shim("remote_coverage_tools", {}, targets = ["coverage_report_generator", "lcov_merger"])

    _system("absl", "absl/status/status.h", "libabsl-dev")
    _system("benchmark", "benchmark/benchmark.h", "libbenchmark-dev")
    _system("eigen", "eigen3/Eigen/Core", "libeigen3-dev")
    _system("glog", "glog/logging.h", "libgoogle-glog-dev")
    _system("googletest", "gmock/gmock.h", "libgmock-dev")
    _system("nlohmann_json", "nlohmann/json.hpp", "nlohmann-json3-dev")
    _system("onednn", "dnnl.hpp", "libdnnl-dev")
    _optional_system("openmpi", "openmpi/include/mpi.h", "libopenmpi-dev")
    if not native.existing_rule("strake_cuda"):
        cuda_repository(
            name = "strake_cuda",
            build_file = Label("//third_party:cuda.BUILD"),
        )
    if not native.existing_rule("strake_cudnn_frontend"):
        cudnn_frontend_repository(
            name = "strake_cudnn_frontend",
            build_file = Label("//third_party:cudnn_frontend.BUILD"),
            version = CUDNN_FRONTEND_VERSION,
        )

def _shim(name, files, targets = []):
    if not native.existing_rule(name):
        shim_repository(
            name = name,
            # A repository rule takes label-keyed dictionaries: file to symlink -> path inside.
            files = {Label(source): path for path, source in files.items()},
            targets = targets,
        )

def _optional_system(name, header, debian_package):
    _system(name, header, debian_package, optional = True)

def _system(name, header, debian_package, optional = False):
    name = "strake_" + name
    if not native.existing_rule(name):
        system_library(
            name = name,
            build_file = Label("//third_party:%s.BUILD" % name[len("strake_"):]),
            header = header,
            debian_package = debian_package,
            optional = optional,
        )
