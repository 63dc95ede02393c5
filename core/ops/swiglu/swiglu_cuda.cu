#include "core/cuda/portable.h"
#include "core/ops/cuda/row_tiles.h"
#include "core/ops/cuda/sigmoid.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/swiglu/swiglu_cuda.h"

namespace strake::cuda {
namespace {

// Rows of a tile: what a thread has in flight is twice or three times as many vectors.
constexpr int kRows = 2;

// Traffic: gate_up is read and y written, once.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kTileThreads)
    SwigluForwardKernel(const T* gate_up, int rows, int columns, T* y) {
  const TilePlace tile = ThisTile(columns / kWidth);
  const int column = tile.vector * kWidth;
  if (column >= columns) return;

  Vec<T, kWidth> gate[kRows] = {}, up[kRows] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = int64_t{tile.row} * kRows + r;
    if (row >= rows) continue;
    const T* const from = gate_up + row * 2 * columns + column;
    gate[r] = LoadVec<kWidth>(from);
    up[r] = LoadVec<kWidth>(from + columns);
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = int64_t{tile.row} * kRows + r;
    if (row >= rows) continue;
    Vec<T, kWidth> result = {};
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float g = ToFloat(gate[r].at[i]);
      result.at[i] = FromFloat<T>(TimesSigmoid2(g, g * kLog2E) * ToFloat(up[r].at[i]));
    }
    StoreVec(y + row * columns + column, result);
  }
}

// Traffic: dy and gate_up are read and dgate_up written, once.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kTileThreads)
    SwigluBackwardKernel(const T* dy, const T* gate_up, int rows, int columns, T* dgate_up) {
  const TilePlace tile = ThisTile(columns / kWidth);
  const int column = tile.vector * kWidth;
  if (column >= columns) return;

  Vec<T, kWidth> d[kRows] = {}, gate[kRows] = {}, up[kRows] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = int64_t{tile.row} * kRows + r;
    if (row >= rows) continue;
    const T* const from = gate_up + row * 2 * columns + column;
    d[r] = LoadVec<kWidth>(dy + row * columns + column);
    gate[r] = LoadVec<kWidth>(from);
    up[r] = LoadVec<kWidth>(from + columns);
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = int64_t{tile.row} * kRows + r;
    if (row >= rows) continue;
    Vec<T, kWidth> dgate = {}, dup = {};
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float g = ToFloat(gate[r].at[i]), gradient = ToFloat(d[r].at[i]);
      const SigmoidPair s = Sigmoid2(g * kLog2E);
      dgate.at[i] =
          FromFloat<T>(gradient * ToFloat(up[r].at[i]) * (s.value * (1 + g * s.complement)));
      dup.at[i] = FromFloat<T>(gradient * (g * s.value));
    }
    T* const to = dgate_up + row * 2 * columns + column;
    StoreVec(to, dgate);
    StoreVec(to + columns, dup);
  }
}

}  // namespace

template <typename T>
absl::Status SwigluForward(CudaStream stream, const T* gate_up, int64_t rows, int64_t columns,
                           T* y) {
  if (rows == 0 || columns == 0) return absl::OkStatus();
  return LaunchVectorized<T>(Vectorizes<T>(columns, {gate_up, y}), [&]<int kWidth>() {
    const RowTiles tiles((rows + kRows - 1) / kRows, columns / kWidth);
    return Launch<SwigluForwardKernel<T, kWidth>>(stream, tiles.blocks, tiles.threads, 0, gate_up,
                                                  rows, columns, y);
  });
}

template <typename T>
absl::Status SwigluBackward(CudaStream stream, const T* dy, const T* gate_up, int64_t rows,
                            int64_t columns, T* dgate_up) {
  if (rows == 0 || columns == 0) return absl::OkStatus();
  return LaunchVectorized<T>(Vectorizes<T>(columns, {dy, gate_up, dgate_up}), [&]<int kWidth>() {
    const RowTiles tiles((rows + kRows - 1) / kRows, columns / kWidth);
    return Launch<SwigluBackwardKernel<T, kWidth>>(stream, tiles.blocks, tiles.threads, 0, dy,
                                                   gate_up, rows, columns, dgate_up);
  });
}

template absl::Status SwigluForward<float>(CudaStream, const float*, int64_t, int64_t, float*);
template absl::Status SwigluForward<Bf16>(CudaStream, const Bf16*, int64_t, int64_t, Bf16*);
template absl::Status SwigluBackward<float>(CudaStream, const float*, const float*, int64_t,
                                            int64_t, float*);
template absl::Status SwigluBackward<Bf16>(CudaStream, const Bf16*, const Bf16*, int64_t, int64_t,
                                           Bf16*);

}  // namespace strake::cuda
