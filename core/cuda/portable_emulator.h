// core/cuda/portable.h for the emulator: CUDA's names, implemented by core/testing/cuda_emulator.h.
#ifndef STRAKE_CORE_CUDA_PORTABLE_EMULATOR_H_
#define STRAKE_CORE_CUDA_PORTABLE_EMULATOR_H_

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/dtype.h"
#include "core/cuda/emulated_shared.h"
#include "core/cuda/kernel_name.h"
#include "core/cuda/stream.h"
#include "core/cuda/vec.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
// Static, because blocks run one after the other; thread_local, because other threads may launch
// grids of their own.
#define __shared__ static thread_local

#define threadIdx (::strake::testing::cuda_builtins.thread_idx)
#define blockIdx (::strake::testing::cuda_builtins.block_idx)
#define blockDim (::strake::testing::cuda_builtins.block_dim)
#define gridDim (::strake::testing::cuda_builtins.grid_dim)

using dim3 = strake::testing::CudaDim3;

// Passes each call's place in the source, for messages.
#define STRAKE_PLACE_PARAMETERS const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define STRAKE_PLACE (::strake::testing::CudaPlace{file, line})

inline void __syncthreads(STRAKE_PLACE_PARAMETERS) {
  strake::testing::CudaSyncThreads(STRAKE_PLACE);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, STRAKE_PLACE_PARAMETERS) {
  strake::testing::CudaBallot("__syncwarp", mask, false, STRAKE_PLACE);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, STRAKE_PLACE_PARAMETERS) {
  return strake::testing::CudaBallot("__ballot_sync", mask, predicate != 0, STRAKE_PLACE);
}

inline int __any_sync(unsigned mask, int predicate, STRAKE_PLACE_PARAMETERS) {
  return strake::testing::CudaBallot("__any_sync", mask, predicate != 0, STRAKE_PLACE) != 0;
}

inline int __all_sync(unsigned mask, int predicate, STRAKE_PLACE_PARAMETERS) {
  return strake::testing::CudaBallot("__all_sync", mask, predicate != 0, STRAKE_PLACE) == mask;
}

namespace strake::testing {

inline int CudaLane() {
  const CudaDim3 &t = threadIdx, &shape = blockDim;
  return (t.x + shape.x * (t.y + shape.y * t.z)) % 32;
}

template <typename T>
T CudaShuffleValue(const char* op, unsigned mask, T value, int source_lane, CudaPlace place) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(value));
  word = CudaShuffle(op, mask, word, source_lane, place);
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

}  // namespace strake::testing

template <typename T>
T __shfl_sync(unsigned mask, T value, int source_lane, int width = 32, STRAKE_PLACE_PARAMETERS) {
  const int base = strake::testing::CudaLane() & ~(width - 1);
  return strake::testing::CudaShuffleValue("__shfl_sync", mask, value,
                                           base + (source_lane & (width - 1)), STRAKE_PLACE);
}

// A lane whose source would be outside its group of `width` lanes reads itself.
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   STRAKE_PLACE_PARAMETERS) {
  const int lane = strake::testing::CudaLane();
  const bool inside = (lane & (width - 1)) + delta < static_cast<unsigned>(width);
  return strake::testing::CudaShuffleValue("__shfl_down_sync", mask, value,
                                           inside ? lane + static_cast<int>(delta) : lane,
                                           STRAKE_PLACE);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, STRAKE_PLACE_PARAMETERS) {
  const int lane = strake::testing::CudaLane(), source = lane ^ lane_mask;
  const bool inside = source < (lane & ~(width - 1)) + width;
  return strake::testing::CudaShuffleValue("__shfl_xor_sync", mask, value, inside ? source : lane,
                                           STRAKE_PLACE);
}

inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return uint64_t{a} * b >> 32; }
inline int __popc(unsigned x) { return std::popcount(x); }
template <typename T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
T max(T a, T b) {
  return a < b ? b : a;
}

namespace strake {

template <int kWidth, typename T>
void CheckVecAlignment(const char* access, const T* p, testing::CudaPlace place) {
  if (reinterpret_cast<uintptr_t>(p) % alignof(Vec<T, kWidth>) == 0) return;
  testing::CudaFault(absl::StrCat("misaligned ", access, " of ", sizeof(Vec<T, kWidth>),
                                  " bytes at ", testing::ToString(place), ": ",
                                  testing::DescribeAddress(p)));
}

template <int kWidth, typename T>
Vec<T, kWidth> LoadVec(const T* from, STRAKE_PLACE_PARAMETERS) {
  CheckVecAlignment<kWidth>("vector load", from, STRAKE_PLACE);
  Vec<T, kWidth> to;
  std::memcpy(&to, from, sizeof(to));
  return to;
}

template <int kWidth, typename T>
void StoreVec(T* to, const Vec<T, kWidth>& from, STRAKE_PLACE_PARAMETERS) {
  CheckVecAlignment<kWidth>("vector store", to, STRAKE_PLACE);
  std::memcpy(to, &from, sizeof(from));
}

inline float ToFloat(float x) { return x; }
inline float ToFloat(Bf16 x) { return static_cast<float>(x); }

template <typename T>
T FromFloat(float x) {
  return T(x);
}

template <auto kKernel, typename... Parameters>
absl::Status LaunchKernel(CudaStream stream, void (*)(Parameters...), dim3 grid, dim3 block,
                          size_t dynamic_shared_bytes,
                          std::type_identity_t<Parameters>... parameters) {
  return testing::LaunchCudaGrid(stream, KernelName<kKernel>(), grid, block, dynamic_shared_bytes,
                                 [=] { kKernel(parameters...); });
}

template <auto kKernel, typename... Arguments>
absl::Status Launch(CudaStream stream, dim3 grid, dim3 block, size_t dynamic_shared_bytes,
                    Arguments... arguments) {
  return LaunchKernel<kKernel>(stream, kKernel, grid, block, dynamic_shared_bytes, arguments...);
}

}  // namespace strake

#undef STRAKE_PLACE_PARAMETERS
#undef STRAKE_PLACE

#endif  // STRAKE_CORE_CUDA_PORTABLE_EMULATOR_H_
