// Memory traffic: x is read once. About 20 integer instructions per element.
#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/block_sum_to_first.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/cuda/workspace_sizes.h"
#include "core/ops/fingerprint/fingerprint_cuda.h"

namespace strake::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kInFlight = 4;  // vectors that a thread loads before it uses the first

__device__ __forceinline__ uint64_t SplitMix64(uint64_t state, uint64_t number) {
  uint64_t z = state + (number + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

__device__ __forceinline__ uint64_t Coefficient(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x85ebca6bu;
  x = (x ^ (x >> 13)) * 0xc2b2ae35u;
  return (x ^ (x >> 16)) | 1;
}

// The bits of the number in f32.
template <typename T>
__device__ __forceinline__ uint32_t Word(T x) {
  return __float_as_uint(ToFloat(x));
}

template <int kWidth>
constexpr int kUnitColumns = kInFlight* kWarpSize* kWidth;

// A warp takes one unit of kUnitColumns columns of a row after another.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) FingerprintKernel(AddFingerprintArgs<T> args) {
  __shared__ Shared<uint64_t, kWarps> first_sums;
  __shared__ Shared<uint64_t, kWarps> second_sums;
  const int lane = threadIdx.x % kWarpSize;
  const int64_t units_per_row = (args.columns + kUnitColumns<kWidth> - 1) / kUnitColumns<kWidth>;
  const int64_t units = args.rows * units_per_row, step = int64_t{gridDim.x} * kWarps;
  uint64_t sums[2] = {};
  for (int64_t unit = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize; unit < units;
       unit += step) {
    const int64_t row = unit / units_per_row;
    const int64_t begin = (unit % units_per_row) * kUnitColumns<kWidth> + lane * kWidth;
    Vec<T, kWidth> values[kInFlight] = {};
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int64_t column = begin + k * kWarpSize * kWidth;
      if (column < args.columns) {
        values[k] = LoadVec<kWidth>(args.x + row * args.stride + column);
      }
    }
    const uint64_t keys = SplitMix64(args.place.key, args.place.row + row);
    const uint32_t first = static_cast<uint32_t>(args.place.column + begin);
    const uint32_t begins[2] = {static_cast<uint32_t>(keys) + first,
                                static_cast<uint32_t>(keys >> 32) + first};
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        // Values past the end are 0, and add nothing.
        const uint32_t word = Word(values[k].at[i]), at = k * kWarpSize * kWidth + i;
        sums[0] += Coefficient(begins[0] + at) * word;
        sums[1] += Coefficient(begins[1] + at) * word;
      }
    }
  }
  sums[0] = BlockSumToFirst(sums[0], first_sums + 0);
  sums[1] = BlockSumToFirst(sums[1], second_sums + 0);
  if (threadIdx.x != 0) return;
  args.sums[2 * blockIdx.x] += sums[0];
  args.sums[2 * blockIdx.x + 1] += sums[1];
}

}  // namespace

template <typename T>
absl::Status AddFingerprint(CudaStream stream, const AddFingerprintArgs<T>& args) {
  if (args.rows == 0 || args.columns == 0) return absl::OkStatus();
  const bool vectorizes =
      Vectorizes<T>(args.columns, {args.x}) && (args.rows == 1 || Vectorizes<T>(args.stride, {}));
  return LaunchVectorized<T>(vectorizes, [&]<int kWidth>() {
    const int64_t units = args.rows * CeilDiv(args.columns, kUnitColumns<kWidth>);
    const int64_t blocks = CeilDiv(units, kWarps);
    return Launch<FingerprintKernel<T, kWidth>>(
        stream, blocks < kFingerprintBlocks ? blocks : kFingerprintBlocks, kThreads, 0, args);
  });
}

STRAKE_FINGERPRINT_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
