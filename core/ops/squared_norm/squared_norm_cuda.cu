// Memory traffic. Forward: x is read once. Backward: x is read once and dx is written once.
#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/block_sum_to_first.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/squared_norm/squared_norm_cuda.h"

namespace strake::cuda {
namespace {

constexpr int kQuad = 4;  // elements that one thread adds, loaded as one vector or one by one
constexpr int kThreads = kSquaredNormBlock / kQuad;
constexpr int kInFlight = 4;

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

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    SumSquaresKernel(const float* x, int64_t size, double* partials) {
  __shared__ Shared<double, kThreads / kWarpSize> sums;
  const int64_t quads = (size + kQuad - 1) / kQuad, step = int64_t{gridDim.x} * kThreads;
  double sum = 0;
  for (int64_t begin = int64_t{blockIdx.x} * kThreads + threadIdx.x; begin < quads;
       begin += kInFlight * step) {
    Vec<float, kQuad> values[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) values[k] = LoadQuad<kWidth>(x, begin + k * step, size);
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
#pragma unroll
      for (int i = 0; i < kQuad; ++i) {
        const double value = values[k].at[i];
        sum += value * value;
      }
    }
  }
  sum = BlockSumToFirst(sum, sums + 0);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    SumDoublesKernel(const double* partials, int num_partials, double* to) {
  __shared__ Shared<double, kThreads / kWarpSize> sums;
  double sum = 0;
  for (int p = threadIdx.x; p < num_partials; p += kThreads) sum += partials[p];
  sum = BlockSumToFirst(sum, sums + 0);
  if (threadIdx.x == 0) *to = sum;
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    SquaredNormBackwardKernel(const float* x, const double* dsum, int64_t size, float* dx) {
  const int64_t q = int64_t{blockIdx.x} * kThreads + threadIdx.x;
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

// The number of blocks that give each thread a quad.
int64_t NumBlocks(int64_t size) { return CeilDiv(size, kSquaredNormBlock); }

}  // namespace

absl::Status SquaredNormForward(CudaStream stream, const SquaredNormForwardArgs& args) {
  const int64_t partials = SquaredNormWorkspaceSize(args.size);
  if (partials > 0) {
    const absl::Status summed =
        LaunchVectorized<float>(Vectorizes<float>(0, {args.x}), [&]<int kWidth>() {
          return Launch<SumSquaresKernel<kWidth>>(stream, partials, kThreads, 0, args.x, args.size,
                                                  args.workspace);
        });
    if (!summed.ok()) return summed;
  }
  return Launch<SumDoublesKernel>(stream, 1, kThreads, 0, args.workspace, partials, args.sum);
}

absl::Status SquaredNormBackward(CudaStream stream, const SquaredNormBackwardArgs& args) {
  if (args.size == 0) return absl::OkStatus();
  return LaunchVectorized<float>(Vectorizes<float>(0, {args.x, args.dx}), [&]<int kWidth>() {
    return Launch<SquaredNormBackwardKernel<kWidth>>(stream, NumBlocks(args.size), kThreads, 0,
                                                     args.x, args.dsum, args.size, args.dx);
  });
}

STRAKE_SQUARED_NORM_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
