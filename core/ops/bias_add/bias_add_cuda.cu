#include "core/cuda/portable.h"
#include "core/ops/bias_add/bias_add_cuda.h"
#include "core/ops/cuda/row_tiles.h"
#include "core/ops/cuda/sum_partials.h"
#include "core/ops/cuda/vectorize.h"

namespace strake::cuda {
namespace {

constexpr int kRows = 4;  // of a tile, all in flight before the first is stored

// Traffic: x is read and y written, once; the bias comes from L2.
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

// partials[p, c] = sum of dy[n, c] over rows n = p, p + P, p + 2 P, ... of P partials.
// Traffic: dy is read once; the partials stay in L2.
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
absl::Status BiasAddForward(CudaStream stream, const T* x, const T* bias, int64_t rows,
                            int64_t columns, T* y) {
  if (rows == 0 || columns == 0) return absl::OkStatus();
  return LaunchVectorized<T>(Vectorizes<T>(columns, {x, bias, y}), [&]<int kWidth>() {
    const RowTiles tiles((rows + kRows - 1) / kRows, columns / kWidth);
    return Launch<BiasAddForwardKernel<T, kWidth>>(stream, tiles.blocks, tiles.threads, 0, x, bias,
                                                   rows, columns, y);
  });
}

int64_t BiasAddBackwardWorkspaceSize(int64_t rows, int64_t columns) {
  return NumPartials(rows, columns) * columns;
}

template <typename T>
absl::Status BiasAddBackward(CudaStream stream, const T* dy, int64_t rows, int64_t columns,
                             float* dbias, float* workspace) {
  if (rows == 0 || columns == 0) return absl::OkStatus();
  const int64_t partials = NumPartials(rows, columns);
  const absl::Status launched =
      LaunchVectorized<T>(Vectorizes<T>(columns, {dy, workspace}), [&]<int kWidth>() {
        const RowTiles tiles(partials, columns / kWidth);
        return Launch<ColumnSumsKernel<T, kWidth>>(stream, tiles.blocks, tiles.threads, 0, dy, rows,
                                                   columns, partials, workspace);
      });
  if (!launched.ok()) return launched;
  return SumPartials(stream, workspace, partials, columns, dbias);
}

template absl::Status BiasAddForward<float>(CudaStream, const float*, const float*, int64_t,
                                            int64_t, float*);
template absl::Status BiasAddForward<Bf16>(CudaStream, const Bf16*, const Bf16*, int64_t, int64_t,
                                           Bf16*);
template absl::Status BiasAddBackward<float>(CudaStream, const float*, int64_t, int64_t, float*,
                                             float*);
template absl::Status BiasAddBackward<Bf16>(CudaStream, const Bf16*, int64_t, int64_t, float*,
                                            float*);

}  // namespace strake::cuda
