#include <array>

#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/philox/philox_cuda.h"

namespace strake::cuda {
namespace {

constexpr int kThreads = 256;

// The upper of the two words that Philox::Bits() joins, computed by the rounds of
// core/base/philox.cc.
__device__ uint32_t UpperBits(uint32_t key0, uint32_t key1, uint64_t index) {
  uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32);
  uint32_t c2 = 0, c3 = 0;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t low0 = 0xD2511F53u * c0, high0 = __umulhi(0xD2511F53u, c0);
    const uint32_t low1 = 0xCD9E8D57u * c2, high1 = __umulhi(0xCD9E8D57u, c2);
    c0 = high1 ^ c1 ^ key0;
    c1 = low1;
    c2 = high0 ^ c3 ^ key1;
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c1;
}

// Exact in f32, because it has 24 bits.
__device__ float Uniform(uint32_t key0, uint32_t key1, uint64_t index) {
  return static_cast<float>(UpperBits(key0, key1, index) >> 8) * 0x1p-23f - 1.0f;
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    PhiloxUniformKernel(uint32_t key0, uint32_t key1, uint64_t first, int64_t size, T* x) {
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth;
  if (at + kWidth <= size) {
    Vec<T, kWidth> values = {};
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      values.at[i] = FromFloat<T>(Uniform(key0, key1, first + at + i));
    StoreVec(x + at, values);
    return;
  }
  for (int64_t i = at; i < size; ++i) x[i] = FromFloat<T>(Uniform(key0, key1, first + i));
}

}  // namespace

template <typename T>
absl::Status PhiloxUniform(CudaStream stream, const PhiloxUniformArgs<T>& args) {
  if (args.size == 0) return absl::OkStatus();
  const std::array<uint32_t, 2> key = args.random.key();
  return LaunchVectorized<T>(Vectorizes<T>(0, {args.x}), [&]<int kWidth>() {
    const int64_t per_block = int64_t{kThreads} * kWidth;
    return Launch<PhiloxUniformKernel<T, kWidth>>(stream, (args.size + per_block - 1) / per_block,
                                                  kThreads, 0, key[0], key[1], args.first,
                                                  args.size, args.x);
  });
}

STRAKE_PHILOX_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
