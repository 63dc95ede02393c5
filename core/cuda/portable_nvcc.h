// core/cuda/portable.h for nvcc.
#ifndef STRAKE_CORE_CUDA_PORTABLE_NVCC_H_
#define STRAKE_CORE_CUDA_PORTABLE_NVCC_H_

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/dtype.h"
#include "core/cuda/kernel_name.h"
#include "core/cuda/stream.h"
#include "core/cuda/vec.h"

namespace strake {

template <typename T, int kCount>
using Shared = T[kCount];

template <typename T>
__device__ T* DynamicShared(int byte_offset = 0) {
  extern __shared__ uint4 strake_dynamic_shared[];
  return reinterpret_cast<T*>(reinterpret_cast<char*>(strake_dynamic_shared) + byte_offset);
}

// Vec's alignment makes these 128-bit accesses.
template <int kWidth, typename T>
__device__ __forceinline__ Vec<T, kWidth> LoadVec(const T* from) {
  return *reinterpret_cast<const Vec<T, kWidth>*>(from);
}

template <int kWidth, typename T>
__device__ __forceinline__ void StoreVec(T* to, const Vec<T, kWidth>& from) {
  *reinterpret_cast<Vec<T, kWidth>*>(to) = from;
}

__device__ __forceinline__ float ToFloat(float x) { return x; }
__device__ __forceinline__ float ToFloat(Bf16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}

template <typename T>
__device__ __forceinline__ T FromFloat(float x) {
  if constexpr (std::is_same_v<T, Bf16>) {
    Bf16 rounded;
    rounded.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
    return rounded;
  } else {
    return x;
  }
}

// The arguments have the kernel's parameter types, because cudaLaunchKernel takes their addresses.
template <auto kKernel, typename... Parameters>
cudaError_t LaunchKernel(void (*)(Parameters...), CudaStream stream, dim3 grid, dim3 block,
                         size_t dynamic_shared_bytes,
                         std::type_identity_t<Parameters>... parameters) {
  const void* kernel = reinterpret_cast<const void*>(kKernel);
  if (dynamic_shared_bytes > 48 << 10) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(dynamic_shared_bytes));
    if (error != cudaSuccess) return error;
  }
  void* pointers[] = {static_cast<void*>(&parameters)...};
  return cudaLaunchKernel(kernel, grid, block, pointers, dynamic_shared_bytes, stream);
}

template <auto kKernel, typename... Arguments>
absl::Status Launch(CudaStream stream, dim3 grid, dim3 block, size_t dynamic_shared_bytes,
                    Arguments... arguments) {
  const cudaError_t error =
      LaunchKernel<kKernel>(kKernel, stream, grid, block, dynamic_shared_bytes, arguments...);
  if (error == cudaSuccess) return absl::OkStatus();
  (void)cudaGetLastError();  // so that the next call does not report it again
  return absl::InternalError(absl::StrCat(
      "kernel ", KernelName<kKernel>(), ": cannot launch a grid of (", grid.x, ", ", grid.y, ", ",
      grid.z, ") blocks of (", block.x, ", ", block.y, ", ", block.z, ") threads with ",
      dynamic_shared_bytes, " bytes of dynamic shared memory: ", cudaGetErrorString(error)));
}

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_PORTABLE_NVCC_H_
