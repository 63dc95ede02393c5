#include "core/ops/embedding/position_embedding.h"

#include <algorithm>

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/documents.h"
#include "core/ops/embedding/embedding_args.h"
#include "core/ops/embedding/embedding_cpu.h"
#include "core/ops/embedding/embedding_cuda.h"
#include "core/ops/embedding/position_embedding_args.h"
#include "core/ops/embedding/position_embedding_cuda.h"
#include "core/ops/embedding/position_embedding_reference.h"
#include "glog/logging.h"

namespace strake {
namespace {

// `positions` is the parameter or its gradient, `y` the output or its gradient.
void CheckShapes(const Tensor& positions, DType positions_dtype, int64_t period, int64_t offset,
                 const Tensor& y, const Tensor& row_positions) {
  CHECK(positions.rank() == 2 && y.rank() == 2 && positions.dim(1) == y.dim(1) &&
        positions.dtype() == positions_dtype && period > 0 && period <= positions.dim(0) &&
        offset >= 0)
      << "[position_embedding] positions " << positions.ToString() << ", y " << y.ToString()
      << ", period " << period << ", offset " << offset;
  CHECK(!row_positions.defined() ||
        (row_positions.shape() == Shape({y.dim(0)}) && row_positions.dtype() == DType::kI32))
      << "[position_embedding] y " << y.ToString() << ", row_positions "
      << row_positions.ToString();
}

// As many rows as `y` uses.
Tensor NamedRows(const Tensor& positions, int64_t period, const Tensor& y) {
  return positions.Rows(0, std::min(period, y.dim(0)));
}

const int32_t* GivenOrNull(const Tensor& row_positions) {
  return row_positions.defined() ? row_positions.data<int32_t>() : nullptr;
}

absl::Status CheckGiven(const Tensor& row_positions, const Tensor& positions) {
  if (!row_positions.defined()) return absl::OkStatus();
  return CheckPositions("position_embedding", row_positions, positions.dim(0));
}

// Given positions are sorted like tokens, because any of them may be equal.
absl::Status BackwardOnCuda(const Context& ctx, const Tensor& dy, int64_t period, int64_t offset,
                            const Tensor& dpositions, const Tensor& row_positions,
                            const Tensor& workspace) {
  return DispatchCuda("position_embedding", dy.dtype(), [&]<typename T>() {
    if (row_positions.defined()) {
      const int64_t num_positions = dpositions.dim(0);
      return cuda::EmbeddingBackward<T>(ctx.cuda_stream(), {.dy = dy.data<T>(),
                                                            .tokens = row_positions.data<int32_t>(),
                                                            .num_tokens = dy.dim(0),
                                                            .slice = {.vocab_size = num_positions},
                                                            .table_rows = num_positions,
                                                            .columns = dy.dim(1),
                                                            .dtable = dpositions.data<float>(),
                                                            .workspace = workspace.raw()});
    }
    return cuda::PositionEmbeddingBackward<T>(ctx.cuda_stream(),
                                              {.dy = dy.data<T>(),
                                               .period = period,
                                               .offset = offset,
                                               .rows = dy.dim(0),
                                               .columns = dy.dim(1),
                                               .dpositions = dpositions.data<float>()});
  });
}

}  // namespace

absl::Status PositionEmbeddingForward(const Context& ctx, const Tensor& positions, int64_t period,
                                      int64_t offset, Tensor y, const Tensor& row_positions) {
  CheckShapes(positions, y.dtype(), period, offset, y, row_positions);
  const bool on_cuda = OnCuda("position_embedding", ctx, positions, y, row_positions);
  const OpScope op(ctx, "position_embedding", [&](OpCall& call) {
    call.In("positions", positions, NamedRows(positions, period, y).num_bytes())
        .InOut("y", y)
        .In("row_positions", row_positions)
        .Set("period", period)
        .Set("offset", offset);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const int64_t columns = y.dim(1);
  const int32_t* const given = GivenOrNull(row_positions);
  if (on_cuda) {
    return DispatchCuda("position_embedding", y.dtype(), [&]<typename T>() {
      return cuda::PositionEmbeddingForward<T>(ctx.cuda_stream(),
                                               {.positions = positions.data<T>(),
                                                .period = period,
                                                .offset = offset,
                                                .rows = y.dim(0),
                                                .columns = columns,
                                                .y = y.data<T>(),
                                                .given = given,
                                                .num_positions = positions.dim(0)});
    });
  }
  if (absl::Status status = CheckGiven(row_positions, positions); !status.ok()) return status;
  const RowPositions at = {period, offset, given};
  const bool done = RunCpuKernels("position_embedding", ctx, y.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(y.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(
          PositionEmbeddingForward(positions.data<T>(), at, begin, end, columns, y.data<T>()));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("position_embedding", y.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(y.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      reference::PositionEmbeddingForward(positions.data<Scalar>(), at, begin, end, columns,
                                          y.data<Scalar>());
    });
  });
  return absl::OkStatus();
}

absl::Status PositionEmbeddingBackward(const Context& ctx, const Tensor& dy, int64_t period,
                                       int64_t offset, Tensor dpositions,
                                       const Tensor& row_positions) {
  CheckShapes(dpositions, AccumulationDType(dy.dtype()), period, offset, dy, row_positions);
  const bool on_cuda = OnCuda("position_embedding", ctx, dy, dpositions, row_positions);
  const ActivationScope scope(ctx.arena());
  Tensor workspace;
  if (on_cuda && row_positions.defined()) {
    const size_t bytes = cuda::EmbeddingBackwardWorkspaceBytes(dy.dim(0), dy.dim(1));
    workspace = ctx.arena().Allocate(DType::kI32, {static_cast<int64_t>(bytes / sizeof(int32_t))});
  }
  const OpScope op(ctx, "position_embedding", [&](OpCall& call) {
    call.In("dy", dy)
        .InOut("dpositions", dpositions, NamedRows(dpositions, period, dy).num_bytes())
        .In("row_positions", row_positions)
        .Set("period", period)
        .Set("offset", offset);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return BackwardOnCuda(ctx, dy, period, offset, dpositions, row_positions, workspace);
  }
  if (absl::Status status = CheckGiven(row_positions, dpositions); !status.ok()) return status;
  const int64_t columns = dy.dim(1);
  const RowPositions at = {period, offset, GivenOrNull(row_positions)};
  // Each thread owns columns, not rows, because equal positions add to the same row of the table.
  const bool done = RunCpuKernels("position_embedding", ctx, dy.dtype(), [&]<typename T>() {
    ctx.team().ParallelFor(columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(PositionEmbeddingBackward(dy.data<T>(), at, dy.dim(0), columns, begin, end,
                                               dpositions.data<float>()));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("position_embedding", dy.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      reference::PositionEmbeddingBackward(dy.data<Scalar>(), at, dy.dim(0), columns, begin, end,
                                           dpositions.data<Scalar>());
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
