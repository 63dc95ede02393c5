// Memory traffic. Forward: x is read once. Backward: x is read once and dx is written once.
#include "core/base/exact_sum.h"
#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/squared_norm/squared_norm_cuda.h"

namespace strake::cuda {
namespace {

constexpr int kQuad = 4;  // elements that one thread loads, as one vector or one by one
constexpr int kUnitThreads = 4;
constexpr int kUnitQuads = kSquaredNormUnit / kQuad;
constexpr int kThreads = kSquaredNormBlockUnits * kUnitThreads;
constexpr int kBackwardThreads = 256;

// Elements [q * kQuad, ...) of x, with zeros past its end.
template <int kWidth>
__device__ __forceinline__ Vec<float, kQuad> LoadQuad(const float* x, int64_t q, int64_t size) {
  Vec<float, kQuad> quad = {};
  if (kWidth == kQuad && (q + 1) * kQuad <= size) return LoadVec<kQuad>(x + q * kQuad);
#pragma unroll
  for (int i = 0; i < kQuad; ++i) {
    if (q * kQuad + i < size) quad.at[i] = x[q * kQuad + i];
  }
  return quad;
}

// The sum of a unit's squares in the order of reference::SquaredNormOfUnit(). Of the unit's 16
// lanes, each of its 4 threads has a quad. All of a warp call it; units past the end are zeros.
template <int kWidth>
__device__ __forceinline__ double SumUnit(const float* x, int64_t unit, int64_t size) {
  constexpr int kLoads = kUnitQuads / kUnitThreads;
  Vec<float, kQuad> values[kLoads];
#pragma unroll
  for (int k = 0; k < kLoads; ++k) {
    const int64_t q = unit * kUnitQuads + k * kUnitThreads + threadIdx.x % kUnitThreads;
    values[k] = LoadQuad<kWidth>(x, q, size);
  }
  double lanes[kQuad] = {};
#pragma unroll
  for (int k = 0; k < kLoads; ++k) {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      const double value = values[k].at[i];
      lanes[i] += value * value;
    }
  }
  return WarpSum<kUnitThreads>((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
}

// partials[k, block] = limb k of the block's units. The threads of a unit share an exact sum.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    SumUnitsKernel(const float* x, int64_t size, int64_t* partials) {
  __shared__ Shared<int64_t, kExactSumLimbs * kSquaredNormBlockUnits> limbs;
  for (int i = threadIdx.x; i < kExactSumLimbs * kSquaredNormBlockUnits; i += kThreads) {
    limbs[i] = 0;
  }
  __syncthreads();
  const int column = threadIdx.x / kUnitThreads;
  const int64_t units = (size + kSquaredNormUnit - 1) / kSquaredNormUnit;
  const int64_t step = int64_t{gridDim.x} * kSquaredNormBlockUnits;
  for (int64_t begin = int64_t{blockIdx.x} * kSquaredNormBlockUnits; begin < units; begin += step) {
    const double sum = SumUnit<kWidth>(x, begin + column, size);
    if (threadIdx.x % kUnitThreads == 0) {
      AddToExactSum(sum, limbs + column, kSquaredNormBlockUnits);
    }
  }
  __syncthreads();
  static_assert(kSquaredNormBlockUnits == 2 * kWarpSize);
  const int lane = threadIdx.x % kWarpSize;
  for (int k = threadIdx.x / kWarpSize; k < kExactSumLimbs; k += kThreads / kWarpSize) {
    const auto row = limbs + k * kSquaredNormBlockUnits;
    const int64_t sum = WarpSum(row[lane] + row[lane + kWarpSize]);
    if (lane == 0) partials[int64_t{k} * gridDim.x + blockIdx.x] = sum;
  }
}

// sum += partials [kExactSumLimbs, num_partials]. One warp per limb.
__global__ void __launch_bounds__(kExactSumLimbs* kWarpSize)
    AddPartialsKernel(const int64_t* partials, int num_partials, int64_t* sum) {
  __shared__ Shared<int64_t, kExactSumLimbs> limbs;
  const int limb = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int64_t* const row = partials + int64_t{limb} * num_partials;
  int64_t total = lane == 0 ? sum[limb] : 0;
  for (int p = lane; p < num_partials; p += kWarpSize) total += row[p];
  total = WarpSum(total);
  if (lane == 0) limbs[limb] = total;
  __syncthreads();
  if (threadIdx.x == 0) CarryExactSum(limbs + 0);
  __syncthreads();
  if (threadIdx.x < kExactSumLimbs) sum[threadIdx.x] = limbs[threadIdx.x];
}

template <int kWidth>
__global__ void __launch_bounds__(kBackwardThreads)
    SquaredNormBackwardKernel(const float* x, const double* dsum, int64_t size, float* dx) {
  const int64_t q = int64_t{blockIdx.x} * kBackwardThreads + threadIdx.x;
  if (q * kQuad >= size) return;
  const double factor = 2 * *dsum;
  Vec<float, kQuad> values = LoadQuad<kWidth>(x, q, size);
#pragma unroll
  for (int i = 0; i < kQuad; ++i) values.at[i] = factor * values.at[i];
  if (kWidth == kQuad && (q + 1) * kQuad <= size) {
    StoreVec(dx + q * kQuad, values);
    return;
  }
#pragma unroll
  for (int i = 0; i < kQuad; ++i) {
    if (q * kQuad + i < size) dx[q * kQuad + i] = values.at[i];
  }
}

}  // namespace

absl::Status SquaredNormForward(CudaStream stream, const SquaredNormForwardArgs& args) {
  if (args.size == 0) return absl::OkStatus();
  const int64_t blocks = NumSquaredNormBlocks(args.size);
  const absl::Status summed =
      LaunchVectorized<float>(Vectorizes<float>(0, {args.x}), [&]<int kWidth>() {
        return Launch<SumUnitsKernel<kWidth>>(stream, blocks, kThreads, 0, args.x, args.size,
                                              args.workspace);
      });
  if (!summed.ok()) return summed;
  return Launch<AddPartialsKernel>(stream, 1, kExactSumLimbs * kWarpSize, 0, args.workspace, blocks,
                                   args.sum);
}

absl::Status SquaredNormBackward(CudaStream stream, const SquaredNormBackwardArgs& args) {
  if (args.size == 0) return absl::OkStatus();
  return LaunchVectorized<float>(Vectorizes<float>(0, {args.x, args.dx}), [&]<int kWidth>() {
    return Launch<SquaredNormBackwardKernel<kWidth>>(
        stream, CeilDiv(args.size, kQuad * kBackwardThreads), kBackwardThreads, 0, args.x,
        args.dsum, args.size, args.dx);
  });
}

STRAKE_SQUARED_NORM_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
