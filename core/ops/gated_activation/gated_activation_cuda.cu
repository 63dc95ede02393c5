#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/activation/activation_functions_cuda.h"
#include "core/ops/cuda/row_tiles.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/gated_activation/gated_activation_cuda.h"

namespace strake::cuda {
namespace {

// Rows of a tile: a thread has two or three times as many vectors in flight.
constexpr int kRows = 2;

// Memory traffic: gate_up is read once and y written once.
template <typename Function, typename T, int kWidth>
__global__ void __launch_bounds__(kTileThreads)
    GatedForwardKernel(const T* gate_up, int rows, int columns, T* y) {
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
      const float value = Function::Value(ToFloat(gate[r].at[i]));
      result.at[i] = FromFloat<T>(value * ToFloat(up[r].at[i]));
    }
    StoreVec(y + row * columns + column, result);
  }
}

// Memory traffic: dy and gate_up are read once and dgate_up written once.
template <typename Function, typename T, int kWidth>
__global__ void __launch_bounds__(kTileThreads)
    GatedBackwardKernel(const T* dy, const T* gate_up, int rows, int columns, T* dgate_up) {
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
      const float gradient = ToFloat(d[r].at[i]);
      const ValueAndSlope act = Function::Both(ToFloat(gate[r].at[i]));
      dgate.at[i] = FromFloat<T>(gradient * ToFloat(up[r].at[i]) * act.slope);
      dup.at[i] = FromFloat<T>(gradient * act.value);
    }
    T* const to = dgate_up + row * 2 * columns + column;
    StoreVec(to, dgate);
    StoreVec(to + columns, dup);
  }
}

}  // namespace

template <typename T>
absl::Status GatedActivationForward(CudaStream stream, const GatedActivationForwardArgs<T>& args) {
  if (args.rows == 0 || args.columns == 0) return absl::OkStatus();
  return DispatchActivation(args.kind, [&]<ActivationKind kKind>() {
    using Function = typename ActivationFunction<kKind>::type;
    return LaunchVectorized<T>(
        Vectorizes<T>(args.columns, {args.gate_up, args.y}), [&]<int kWidth>() {
          const RowTiles tiles((args.rows + kRows - 1) / kRows, args.columns / kWidth);
          return Launch<GatedForwardKernel<Function, T, kWidth>>(stream, tiles.blocks,
                                                                 tiles.threads, 0, args.gate_up,
                                                                 args.rows, args.columns, args.y);
        });
  });
}

template <typename T>
absl::Status GatedActivationBackward(CudaStream stream,
                                     const GatedActivationBackwardArgs<T>& args) {
  if (args.rows == 0 || args.columns == 0) return absl::OkStatus();
  return DispatchActivation(args.kind, [&]<ActivationKind kKind>() {
    using Function = typename ActivationFunction<kKind>::type;
    return LaunchVectorized<T>(
        Vectorizes<T>(args.columns, {args.dy, args.gate_up, args.dgate_up}), [&]<int kWidth>() {
          const RowTiles tiles((args.rows + kRows - 1) / kRows, args.columns / kWidth);
          return Launch<GatedBackwardKernel<Function, T, kWidth>>(
              stream, tiles.blocks, tiles.threads, 0, args.dy, args.gate_up, args.rows,
              args.columns, args.dgate_up);
        });
  });
}

STRAKE_GATED_ACTIVATION_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
