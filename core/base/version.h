// The release of Strake, and how it was built.
#ifndef STRAKE_CORE_BASE_VERSION_H_
#define STRAKE_CORE_BASE_VERSION_H_

namespace strake {

// "0.1.0", as in MODULE.bazel.
const char* Version();

// "opt, for CPUs with AVX2, CUDA for sm_80 sm_90a, oneDNN, Open MPI".
const char* BuildConfiguration();

}  // namespace strake

#endif  // STRAKE_CORE_BASE_VERSION_H_
