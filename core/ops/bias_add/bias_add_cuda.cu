#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/bias_add/bias_add_cuda.h"
#include "core/ops/cuda/row_tiles.h"
#include "core/ops/cuda/sum_partials.h"
#include "core/ops/cuda/vectorize.h"

namespace strake::cuda {
namespace {

constexpr int kRows = 4;  // rows per tile; all are in flight before the first is stored

// Memory traffic: x is read once and y written once; the bias comes from L2.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kTileThreads)
    BiasAddForwardKernel(const T* x, const T* bias, int rows, int columns, T* y) {
  const TilePlace tile = ThisTile(columns / kWidth);
  const int column = tile.vector * kWidth;
  if (column >= columns) return;

  const Vec<T, kWidth> b = LoadVec<kWidth>(bias + column);
  Vec<T, kWidth> values[kRows] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = int64_t{tile.row} * kRows + r;
    if (row < rows) values[r] = LoadVec<kWidth>(x + row * columns + column);
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = int64_t{tile.row} * kRows + r;
    if (row >= rows) continue;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      values[r].at[i] = FromFloat<T>(ToFloat(values[r].at[i]) + ToFloat(b.at[i]));
    }
    StoreVec(y + row * columns + column, values[r]);
  }
}

// partials[p, c] = sum of dy[n, c] over rows n = p, p + P, p + 2 P, ..., where P is the number of
// partials.
// Memory traffic: dy is read once; the partials stay in L2.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kTileThreads)
    ColumnSumsKernel(const T* dy, int rows, int columns, int num_partials, float* partials) {
  const TilePlace tile = ThisTile(columns / kWidth);
  const int column = tile.vector * kWidth;
  if (column >= columns) return;

  Vec<float, kWidth> sum = {};
#pragma unroll 8
  for (int64_t row = tile.row; row < rows; row += num_partials) {
    const Vec<T, kWidth> value = LoadVec<kWidth>(dy + row * columns + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum.at[i] += ToFloat(value.at[i]);
  }
  StoreVec(partials + int64_t{tile.row} * columns + column, sum);
}

}  // namespace

template <typename T>
absl::Status BiasAddForward(CudaStream stream, const BiasAddForwardArgs<T>& args) {
  if (args.rows == 0 || args.columns == 0) return absl::OkStatus();
  return LaunchVectorized<T>(
      Vectorizes<T>(args.columns, {args.x, args.bias, args.y}), [&]<int kWidth>() {
        const RowTiles tiles((args.rows + kRows - 1) / kRows, args.columns / kWidth);
        return Launch<BiasAddForwardKernel<T, kWidth>>(stream, tiles.blocks, tiles.threads, 0,
                                                       args.x, args.bias, args.rows, args.columns,
                                                       args.y);
      });
}

template <typename T>
absl::Status BiasAddBackward(CudaStream stream, const BiasAddBackwardArgs<T>& args) {
  if (args.rows == 0 || args.columns == 0) return absl::OkStatus();
  const int64_t partials = NumPartials(args.rows, args.columns);
  const absl::Status launched = LaunchVectorized<T>(
      Vectorizes<T>(args.columns, {args.dy, args.workspace}), [&]<int kWidth>() {
        const RowTiles tiles(partials, args.columns / kWidth);
        return Launch<ColumnSumsKernel<T, kWidth>>(stream, tiles.blocks, tiles.threads, 0, args.dy,
                                                   args.rows, args.columns, partials,
                                                   args.workspace);
      });
  if (!launched.ok()) return launched;
  return SumPartials(stream, args.workspace, partials, args.columns, args.dbias);
}

STRAKE_BIAS_ADD_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
