#include "core/ops/embedding.h"

#include "absl/strings/str_cat.h"
#include "core/ops/dispatch.h"
#include "core/ops/reference/embedding.h"
#include "glog/logging.h"

namespace strake {
namespace {

// `table` is the parameter or its gradient, `y` the output or its gradient.
void CheckShapes(const Tensor& tokens, const VocabSlice& slice, const Tensor& table,
                 const Tensor& y) {
  CheckOnCpu("embedding", y);
  CHECK(tokens.rank() == 1 && tokens.dtype() == DType::kI32 && table.rank() == 2 &&
        table.dtype() == y.dtype() && y.shape() == (Shape{tokens.dim(0), table.dim(1)}) &&
        slice.vocab_size > 0 && slice.begin >= 0)
      << "[embedding] tokens " << tokens.ToString() << ", table " << table.ToString() << ", y "
      << y.ToString() << ", slice from " << slice.begin << " of " << slice.vocab_size;
}

absl::Status CheckTokens(const Tensor& tokens, int64_t vocab_size) {
  const int32_t* values = tokens.data<int32_t>();
  for (int64_t n = 0; n < tokens.dim(0); ++n) {
    if (values[n] >= 0 && values[n] < vocab_size) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("[embedding] token ", n, " of ", tokens.dim(0), " is ", values[n],
                     ", outside the vocabulary's [0, ", vocab_size, ")"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status EmbeddingForward(const Context& ctx, const Tensor& tokens, const VocabSlice& slice,
                              const Tensor& table, Tensor y) {
  CheckShapes(tokens, slice, table, y);
  if (ctx.dry_run()) return absl::OkStatus();
  const OpTimer timer(ctx.profile(), "embedding", ctx.pass());
  if (absl::Status status = CheckTokens(tokens, slice.vocab_size); !status.ok()) return status;
  const int64_t columns = table.dim(1);
  DispatchReference("embedding", y.dtype(), [&]<typename Scalar>() {
    ctx.team().ParallelFor(tokens.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      reference::EmbeddingForward(tokens.data<int32_t>() + begin, end - begin, slice.begin,
                                  table.data<Scalar>(), table.dim(0), columns,
                                  y.data<Scalar>() + begin * columns);
    });
  });
  return absl::OkStatus();
}

absl::Status EmbeddingBackward(const Context& ctx, const Tensor& dy, const Tensor& tokens,
                               const VocabSlice& slice, Tensor dtable) {
  CheckShapes(tokens, slice, dtable, dy);
  if (ctx.dry_run()) return absl::OkStatus();
  const OpTimer timer(ctx.profile(), "embedding", ctx.pass());
  if (absl::Status status = CheckTokens(tokens, slice.vocab_size); !status.ok()) return status;
  const int64_t columns = dtable.dim(1);
  DispatchReference("embedding", dy.dtype(), [&]<typename Scalar>() {
    // A thread owns columns, not tokens: equal tokens meet in one row of the table.
    ctx.team().ParallelFor(columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      reference::EmbeddingBackward(dy.data<Scalar>(), tokens.data<int32_t>(), tokens.dim(0),
                                   slice.begin, dtable.dim(0), columns, begin, end,
                                   dtable.data<Scalar>());
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
