// Algorithms of matrix products that were chosen by a measurement on another day.
#ifndef STRAKE_CORE_CUDA_PRODUCT_TUNING_H_
#define STRAKE_CORE_CUDA_PRODUCT_TUNING_H_

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"

namespace strake {

// Valid for one GPU and one version of cuBLASLt, since its heuristic knows no others' order.
struct ProductTuning {
  std::string gpu;       // CudaDevice::name
  int64_t cublaslt = 0;  // cublasLtGetVersion()
  // Places of algorithms among the heuristic's answers, by ToString() of the product; kUnfused
  // where the product is faster if its GELU or its sums are left to Strake's kernels.
  static constexpr int kUnfused = -1;
  absl::flat_hash_map<std::string, int> algorithms;
};

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_PRODUCT_TUNING_H_
