#include "core/ops/embedding/position_embedding.h"

#include <algorithm>

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/embedding/embedding_cpu.h"
#include "core/ops/embedding/position_embedding_cuda.h"
#include "core/ops/embedding/position_embedding_reference.h"
#include "glog/logging.h"

namespace strake {
namespace {

// `positions` is the parameter or its gradient, `y` the output or its gradient.
void CheckShapes(const Tensor& positions, DType positions_dtype, int64_t period, int64_t offset,
                 const Tensor& y) {
  CHECK(positions.rank() == 2 && y.rank() == 2 && positions.dim(1) == y.dim(1) &&
        positions.dtype() == positions_dtype && period > 0 && period <= positions.dim(0) &&
        offset >= 0)
      << "[position_embedding] positions " << positions.ToString() << ", y " << y.ToString()
      << ", period " << period << ", offset " << offset;
}

// As many rows as `y` uses.
Tensor NamedRows(const Tensor& positions, int64_t period, const Tensor& y) {
  return positions.Rows(0, std::min(period, y.dim(0)));
}

}  // namespace

absl::Status PositionEmbeddingForward(const Context& ctx, const Tensor& positions, int64_t period,
                                      int64_t offset, Tensor y) {
  CheckShapes(positions, y.dtype(), period, offset, y);
  const bool on_cuda = OnCuda("position_embedding", ctx, positions, y);
  const OpScope op(ctx, "position_embedding", [&](OpCall& call) {
    call.In("positions", positions, NamedRows(positions, period, y).num_bytes())
        .InOut("y", y)
        .Set("period", period)
        .Set("offset", offset);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const int64_t columns = y.dim(1);
  if (on_cuda) {
    return DispatchCuda("position_embedding", y.dtype(), [&]<typename T>() {
      return cuda::PositionEmbeddingForward<T>(ctx.cuda_stream(), {.positions = positions.data<T>(),
                                                                   .period = period,
                                                                   .offset = offset,
                                                                   .rows = y.dim(0),
                                                                   .columns = columns,
                                                                   .y = y.data<T>()});
    });
  }
  const bool done = RunCpuKernels("position_embedding", ctx, y.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(y.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(PositionEmbeddingForward(positions.data<T>(), period, offset + begin,
                                              end - begin, columns, y.data<T>() + begin * columns));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("position_embedding", y.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(y.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      reference::PositionEmbeddingForward(positions.data<Scalar>(), period, offset + begin,
                                          end - begin, columns, y.data<Scalar>() + begin * columns);
    });
  });
  return absl::OkStatus();
}

absl::Status PositionEmbeddingBackward(const Context& ctx, const Tensor& dy, int64_t period,
                                       int64_t offset, Tensor dpositions) {
  CheckShapes(dpositions, AccumulationDType(dy.dtype()), period, offset, dy);
  const bool on_cuda = OnCuda("position_embedding", ctx, dy, dpositions);
  const OpScope op(ctx, "position_embedding", [&](OpCall& call) {
    call.In("dy", dy)
        .InOut("dpositions", dpositions, NamedRows(dpositions, period, dy).num_bytes())
        .Set("period", period)
        .Set("offset", offset);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const int64_t columns = dy.dim(1);
  if (on_cuda) {
    return DispatchCuda("position_embedding", dy.dtype(), [&]<typename T>() {
      return cuda::PositionEmbeddingBackward<T>(ctx.cuda_stream(),
                                                {.dy = dy.data<T>(),
                                                 .period = period,
                                                 .offset = offset,
                                                 .rows = dy.dim(0),
                                                 .columns = columns,
                                                 .dpositions = dpositions.data<float>()});
    });
  }
  // Each thread owns columns, not rows, because equal positions add to the same row of the table.
  const bool done = RunCpuKernels("position_embedding", ctx, dy.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(PositionEmbeddingBackward(dy.data<T>(), period, offset, dy.dim(0), columns,
                                               begin, end, dpositions.data<float>()));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("position_embedding", dy.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      reference::PositionEmbeddingBackward(dy.data<Scalar>(), period, offset, dy.dim(0), columns,
                                           begin, end, dpositions.data<Scalar>());
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
