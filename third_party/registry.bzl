"""Libraries that come from Bazel's registry where a MODULE.bazel declares dependencies.

One such library is never taken from the system as well, so a binary cannot hold two of it.
"""

# Eigen threads nothing by itself here: ParallelFor is the only parallelism, so that bits do not
# depend on how many threads Eigen would have taken.
EIGEN_DEFINES = [
    "EIGEN_DONT_PARALLELIZE",
    "EIGEN_MPL2_ONLY",
]

# Arguments of registry_library. A target has its name in third_party/*.BUILD, which declare the same
# libraries of the system.
REGISTRY_LIBRARIES = [
    struct(
        name = "strake_absl",
        defines = [],
        targets = {
            "containers": [
                "@abseil-cpp//absl/container:fixed_array",
                "@abseil-cpp//absl/container:flat_hash_map",
                "@abseil-cpp//absl/container:inlined_vector",
            ],
            "status": [
                "@abseil-cpp//absl/status",
                "@abseil-cpp//absl/status:statusor",
            ],
            "strings": [
                "@abseil-cpp//absl/base:config",
                "@abseil-cpp//absl/strings",
                "@abseil-cpp//absl/strings:str_format",
                "@abseil-cpp//absl/strings:string_view",
            ],
            "types": [
                "@abseil-cpp//absl/functional:function_ref",
                "@abseil-cpp//absl/types:span",
            ],
        },
    ),
    struct(
        name = "strake_benchmark",
        defines = [],
        targets = {"benchmark_main": ["@google_benchmark//:benchmark_main"]},
    ),
    struct(
        name = "strake_crc32c",
        defines = [],
        targets = {"crc32c": ["@abseil-cpp//absl/crc:crc32c"]},
    ),
    struct(
        name = "strake_crypto",
        defines = [],
        targets = {"crypto": ["@boringssl//:crypto"]},
    ),
    struct(
        name = "strake_eigen",
        defines = EIGEN_DEFINES,
        targets = {"eigen": ["@eigen//:eigen"]},
    ),
    struct(
        name = "strake_glog",
        defines = [],
        targets = {"glog": ["@glog//:glog"]},
    ),
    struct(
        name = "strake_googletest",
        defines = [],
        targets = {
            "gtest": ["@googletest//:gtest"],
            "gtest_main": ["@googletest//:gtest_main"],
        },
    ),
    struct(
        name = "strake_nlohmann_json",
        defines = [],
        targets = {"json": ["@nlohmann_json//:json"]},
    ),
    struct(
        name = "strake_pcre2",
        defines = [],
        targets = {"pcre2": ["@pcre2//:pcre2"]},
    ),
    struct(
        name = "strake_utf8proc",
        defines = [],
        targets = {"utf8proc": ["@utf8proc//:utf8proc"]},
    ),
    struct(
        name = "strake_zlib",
        defines = [],
        targets = {"zlib": ["@zlib//:zlib"]},
    ),
    struct(
        name = "strake_zstd",
        defines = [],
        targets = {"zstd": ["@zstd//:zstd"]},
    ),
]
