#include "core/ops/embedding/embedding.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/embedding/embedding_cpu.h"
#include "core/ops/embedding/embedding_cuda.h"
#include "core/ops/embedding/embedding_reference.h"
#include "glog/logging.h"

namespace strake {
namespace {

// `table` is the parameter or its gradient, `y` the output or its gradient.
void CheckShapes(const Tensor& tokens, const VocabSlice& slice, const Tensor& table,
                 DType table_dtype, const Tensor& y) {
  CHECK(tokens.rank() == 1 && tokens.dtype() == DType::kI32 && table.rank() == 2 &&
        table.dtype() == table_dtype && y.shape() == (Shape{tokens.dim(0), table.dim(1)}) &&
        slice.vocab_size > 0 && slice.begin >= 0)
      << "[embedding] tokens " << tokens.ToString() << ", table " << table.ToString() << ", y "
      << y.ToString() << ", slice from " << slice.begin << " of " << slice.vocab_size;
}

// As many rows of the table as `tokens` can select.
Tensor NamedRows(const Tensor& tokens, const Tensor& table) {
  return table.Rows(0, std::min(tokens.dim(0), table.dim(0)));
}

}  // namespace

absl::Status CheckTokens(const Tensor& tokens, int64_t vocab_size) {
  const int32_t* values = tokens.data<int32_t>();
  for (int64_t n = 0; n < tokens.num_elements(); ++n) {
    if (values[n] >= 0 && values[n] < vocab_size) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("[embedding] token ", n, " of ", tokens.num_elements(), " is ", values[n],
                     ", outside the vocabulary's [0, ", vocab_size, ")"));
  }
  return absl::OkStatus();
}

absl::Status EmbeddingForward(const Context& ctx, const Tensor& tokens, const VocabSlice& slice,
                              const Tensor& table, Tensor y) {
  CheckShapes(tokens, slice, table, y.dtype(), y);
  const bool on_cuda = OnCuda("embedding", ctx, tokens, table, y);
  const OpScope op(ctx, "embedding", [&](OpCall& call) {
    call.In("tokens", tokens)
        .In("table", table, NamedRows(tokens, table).num_bytes())
        .Out("y", y)
        .Set("vocab_size", slice.vocab_size)
        .Set("begin", slice.begin);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const auto args_of = [&]<typename T>() -> EmbeddingForwardArgs<T> {
    return {.tokens = tokens.data<int32_t>(),
            .num_tokens = tokens.dim(0),
            .slice = slice,
            .table = table.data<T>(),
            .table_rows = table.dim(0),
            .columns = table.dim(1),
            .y = y.data<T>()};
  };
  if (on_cuda) {
    return DispatchCuda("embedding", y.dtype(), [&]<typename T>() {
      return cuda::EmbeddingForward<T>(ctx.cuda_stream(), args_of.template operator()<T>());
    });
  }
  if (absl::Status status = CheckTokens(tokens, slice.vocab_size); !status.ok()) return status;
  const bool done = RunCpuKernels("embedding", ctx, y.dtype(), [&]<typename T>() {
    const auto args = args_of.template operator()<T>();
    ctx.team().ParallelFor(
        args.num_tokens, RowGrain(args.columns),
        [&](int64_t begin, int64_t end) { STRAKE_CPU_RUN(EmbeddingForward(args, begin, end)); });
  });
  if (done) return absl::OkStatus();
  DispatchReference("embedding", y.dtype(), [&]<typename Scalar>() {
    const auto args = args_of.template operator()<Scalar>();
    ctx.team().ParallelFor(
        args.num_tokens, RowGrain(args.columns),
        [&](int64_t begin, int64_t end) { reference::EmbeddingForward(args, begin, end); });
  });
  return absl::OkStatus();
}

absl::Status EmbeddingBackward(const Context& ctx, const Tensor& dy, const Tensor& tokens,
                               const VocabSlice& slice, Tensor dtable) {
  CheckShapes(tokens, slice, dtable, AccumulationDType(dy.dtype()), dy);
  const bool on_cuda = OnCuda("embedding", ctx, dy, tokens, dtable);
  const ActivationScope scope(ctx.arena());
  Tensor workspace, order, row_sum;
  if (on_cuda) {
    const size_t bytes = cuda::EmbeddingBackwardWorkspaceBytes(tokens.dim(0), dy.dim(1));
    workspace = ctx.arena().Allocate(DType::kI32, {static_cast<int64_t>(bytes / sizeof(int32_t))});
  } else {
    order = ctx.arena().Allocate(DType::kI32, {tokens.dim(0)});
    row_sum = ctx.arena().Allocate(dtable.dtype(), {dtable.dim(1)});
  }
  const OpScope op(ctx, "embedding", [&](OpCall& call) {
    call.In("dy", dy)
        .In("tokens", tokens)
        .InOut("dtable", dtable, NamedRows(tokens, dtable).num_bytes())
        .Set("vocab_size", slice.vocab_size)
        .Set("begin", slice.begin);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const auto args_of = [&]<typename T, typename Sum>() -> EmbeddingBackwardArgs<T, Sum> {
    return {.dy = dy.data<T>(),
            .tokens = tokens.data<int32_t>(),
            .num_tokens = tokens.dim(0),
            .slice = slice,
            .table_rows = dtable.dim(0),
            .columns = dtable.dim(1),
            .dtable = dtable.data<Sum>(),
            .order = on_cuda ? nullptr : order.data<int32_t>(),
            .row_sum = on_cuda ? nullptr : row_sum.data<Sum>()};
  };
  if (on_cuda) {
    return DispatchCuda("embedding", dy.dtype(), [&]<typename T>() {
      auto args = args_of.template operator()<T, float>();
      args.workspace = workspace.raw();
      return cuda::EmbeddingBackward<T>(ctx.cuda_stream(), args);
    });
  }
  if (absl::Status status = CheckTokens(tokens, slice.vocab_size); !status.ok()) return status;
  SortByToken(tokens.data<int32_t>(), tokens.dim(0), order.data<int32_t>());
  // Each thread owns columns, not tokens, because equal tokens add to the same row of the table.
  const bool done = RunCpuKernels("embedding", ctx, dy.dtype(), [&]<typename T>() {
    const auto args = args_of.template operator()<T, float>();
    ctx.team().ParallelFor(args.columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(EmbeddingBackward(args, begin, end));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("embedding", dy.dtype(), [&]<typename Scalar>() {
    const auto args = args_of.template operator()<Scalar, Scalar>();
    ctx.team().ParallelFor(args.columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      reference::EmbeddingBackward(args, begin, end);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
