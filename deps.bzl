"""External dependencies of Strake.

A WORKSPACE calls strake_dependencies(): Strake's own, and every importer's. With a MODULE.bazel,
third_party/extension.bzl declares the same repositories.
"""

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
    _shim("rules_cc", [
        "cc/BUILD.bazel",
        "cc/action_names.bzl",
        "cc/cc_binary.bzl",
        "cc/cc_library.bzl",
        "cc/cc_test.bzl",
        "cc/common/cc_common.bzl",
        "cc/common/cc_info.bzl",
        "cc/common/native.bzl",
        "cc/defs.bzl",
        "cc/find_cc_toolchain.bzl",
    ])
    _shim("rules_java", ["java/defs.bzl"])
    _shim("rules_shell", ["shell/sh_binary.bzl", "shell/sh_test.bzl"])
    _shim("remote_coverage_tools", [], targets = ["coverage_report_generator", "lcov_merger"])

    # With a MODULE.bazel these come from the registry: third_party/registry.bzl.
    declared = native.existing_rules()
    _system("absl", "absl/status/status.h", "libabsl-dev", declared)
    _system("benchmark", "benchmark/benchmark.h", "libbenchmark-dev", declared)
    _system("crc32c", "isa-l/crc.h", "libisal-dev", declared)
    _system("crypto", "openssl/hmac.h", "libssl-dev", declared)
    _system("eigen", "eigen3/Eigen/Core", "libeigen3-dev", declared)
    _system("glog", "glog/logging.h", "libgoogle-glog-dev", declared)
    _system("googletest", "gmock/gmock.h", "libgmock-dev", declared)
    _system("nlohmann_json", "nlohmann/json.hpp", "nlohmann-json3-dev", declared)
    _system("pcre2", "pcre2.h", "libpcre2-dev", declared)
    _system("utf8proc", "utf8proc.h", "libutf8proc-dev", declared)
    _system("zlib", "zlib.h", "zlib1g-dev", declared)
    _system("zstd", "zstd.h", "libzstd-dev", declared)
    strake_system_dependencies(declared)

def strake_system_dependencies(declared = []):
    """Declares what comes from the system whatever the file that declares dependencies.

    The registry's oneDNN has no OpenMP; it has no MPI, no CUDA and no protozero.

    Args:
      declared: names of repositories to leave as they are.
    """
    _system("onednn", "dnnl.hpp", "libdnnl-dev", declared)
    _system("protozero", "protozero/pbf_reader.hpp", "libprotozero-dev", declared)
    _optional_system("openmpi", "openmpi/include/mpi.h", "libopenmpi-dev", declared)
    if "strake_cuda" not in declared:
        cuda_repository(
            name = "strake_cuda",
            build_file = Label("//third_party:cuda.BUILD"),
        )
    if "strake_cudnn_frontend" not in declared:
        cudnn_frontend_repository(
            name = "strake_cudnn_frontend",
            build_file = Label("//third_party:cudnn_frontend.BUILD"),
            version = CUDNN_FRONTEND_VERSION,
        )

def _shim(name, files, targets = []):
    if not native.existing_rule(name):
        shim_repository(
            name = name,
            # A folder's BUILD file is FOLDER.BUILD here, where it makes no package.
            files = {
                Label("//third_party/shims:%s/%s" % (name, path.replace("/BUILD.bazel", ".BUILD"))): path
                for path in files
            },
            targets = targets,
        )

def _optional_system(name, header, debian_package, declared):
    _system(name, header, debian_package, declared, optional = True)

def _system(name, header, debian_package, declared, optional = False):
    if "strake_" + name not in declared:
        system_library(
            name = "strake_" + name,
            build_file = Label("//third_party:%s.BUILD" % name),
            header = header,
            debian_package = debian_package,
            optional = optional,
        )
