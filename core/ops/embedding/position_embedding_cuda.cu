// Memory traffic. Forward: y is read and written once; a row of positions is read once from HBM,
// and then from L2. Backward: dy is read once; dpositions is read and written once.
#include <cmath>

#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/embedding/position_embedding_cuda.h"

namespace strake::cuda {
namespace {

constexpr int kMaxThreads = 128;
constexpr int kInFlight = 8;

// Adds vector v of row `position` of the table to that of the block's row.
template <typename T, int kWidth>
__device__ __forceinline__ void AddPosition(const T* positions, int64_t position, int columns,
                                            int v, T* y) {
  T* const to = y + int64_t{blockIdx.x} * columns + v * kWidth;
  Vec<T, kWidth> value = LoadVec<kWidth>(to);
  const Vec<T, kWidth> added = LoadVec<kWidth>(positions + position * columns + v * kWidth);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    value.at[i] = FromFloat<T>(ToFloat(value.at[i]) + ToFloat(added.at[i]));
  }
  StoreVec(to, value);
}

// Block (n, y): vectors [y * blockDim.x, ...) of row n.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kMaxThreads)
    PositionEmbeddingForwardKernel(const T* positions, int period, int first, int columns, T* y) {
  const int v = blockIdx.y * blockDim.x + threadIdx.x;
  if (v >= columns / kWidth) return;
  const int64_t position = (int64_t{first} + blockIdx.x) % period;
  AddPosition<T, kWidth>(positions, position, columns, v, y);
}

// The same at given positions; one that is not in the table makes its row NaN.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kMaxThreads)
    AddGivenPositionsKernel(const T* positions, const int32_t* given, int64_t num_positions,
                            int columns, T* y) {
  const int v = blockIdx.y * blockDim.x + threadIdx.x;
  if (v >= columns / kWidth) return;
  const int position = given[blockIdx.x];
  if (position < 0 || position >= num_positions) {
    T* const to = y + int64_t{blockIdx.x} * columns + v * kWidth;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) to[i] = FromFloat<T>(NAN);
    return;
  }
  AddPosition<T, kWidth>(positions, position, columns, v, y);
}

// Block (n, y), for n < period: the position of row n, summed over rows n, n + period, ...
template <typename T, int kWidth>
__global__ void __launch_bounds__(kMaxThreads)
    PositionEmbeddingBackwardKernel(const T* dy, int period, int first, int rows, int columns,
                                    float* dpositions) {
  const int v = blockIdx.y * blockDim.x + threadIdx.x;
  if (v >= columns / kWidth) return;
  const int64_t position = (int64_t{first} + blockIdx.x) % period;
  float* const to = dpositions + position * columns + v * kWidth;
  Vec<float, kWidth> sum = LoadVec<kWidth>(to);
  for (int64_t begin = blockIdx.x; begin < rows; begin += int64_t{kInFlight} * period) {
    Vec<T, kWidth> terms[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int64_t row = begin + int64_t{k} * period;
      if (row < rows) terms[k] = LoadVec<kWidth>(dy + row * columns + v * kWidth);
    }
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      if (begin + int64_t{k} * period >= rows) break;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum.at[i] += ToFloat(terms[k].at[i]);
    }
  }
  StoreVec(to, sum);
}

int BlockThreads(int64_t vectors) {
  const int64_t threads = (vectors + kWarpSize - 1) / kWarpSize * kWarpSize;
  return threads < kMaxThreads ? threads : kMaxThreads;
}

dim3 GridOf(int64_t rows, int64_t vectors) {
  const int threads = BlockThreads(vectors);
  return dim3(rows, (vectors + threads - 1) / threads);
}

}  // namespace

template <typename T>
absl::Status PositionEmbeddingForward(CudaStream stream,
                                      const PositionEmbeddingForwardArgs<T>& args) {
  if (args.rows == 0 || args.columns == 0) return absl::OkStatus();
  const auto launch = [&]<int kWidth>() {
    const int64_t vectors = args.columns / kWidth;
    if (args.given != nullptr) {
      return Launch<AddGivenPositionsKernel<T, kWidth>>(
          stream, GridOf(args.rows, vectors), BlockThreads(vectors), 0, args.positions, args.given,
          args.num_positions, args.columns, args.y);
    }
    return Launch<PositionEmbeddingForwardKernel<T, kWidth>>(
        stream, GridOf(args.rows, vectors), BlockThreads(vectors), 0, args.positions, args.period,
        args.offset % args.period, args.columns, args.y);
  };
  return LaunchVectorized<T>(Vectorizes<T>(args.columns, {args.positions, args.y}), launch);
}

template <typename T>
absl::Status PositionEmbeddingBackward(CudaStream stream,
                                       const PositionEmbeddingBackwardArgs<T>& args) {
  if (args.rows == 0 || args.columns == 0) return absl::OkStatus();
  const int64_t used = args.rows < args.period ? args.rows : args.period;
  const auto launch = [&]<int kWidth>() {
    const int64_t vectors = args.columns / kWidth;
    return Launch<PositionEmbeddingBackwardKernel<T, kWidth>>(
        stream, GridOf(used, vectors), BlockThreads(vectors), 0, args.dy, args.period,
        args.offset % args.period, args.rows, args.columns, args.dpositions);
  };
  return LaunchVectorized<T>(Vectorizes<T>(args.columns, {args.dy, args.dpositions}), launch);
}

STRAKE_POSITION_EMBEDDING_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
