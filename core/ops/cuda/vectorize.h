// Included by kernels' .cu files: chooses between 128-bit accesses and single elements.
#ifndef STRAKE_CORE_OPS_CUDA_VECTORIZE_H_
#define STRAKE_CORE_OPS_CUDA_VECTORIZE_H_

#include <initializer_list>

#include "core/cuda/portable.h"

namespace strake::cuda {

// Returns whether rows of `columns` elements, in tensors at these addresses, divide into aligned
// vectors of kVecWidth<T>.
template <typename T>
bool Vectorizes(int64_t columns, std::initializer_list<const void*> pointers) {
  bool aligned = columns % kVecWidth<T> == 0;
  for (const void* p : pointers) aligned &= reinterpret_cast<uintptr_t>(p) % kVecBytes == 0;
  return aligned;
}

// Calls launch.operator()<kWidth>(), with kVecWidth<T> if `vectorizes`, else with 1.
template <typename T, typename LaunchWidth>
absl::Status LaunchVectorized(bool vectorizes, const LaunchWidth& launch) {
  return vectorizes ? launch.template operator()<kVecWidth<T>>() : launch.template operator()<1>();
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_CUDA_VECTORIZE_H_
