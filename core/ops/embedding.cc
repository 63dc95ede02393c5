#include "core/ops/embedding.h"

#include "absl/strings/str_cat.h"
#include "core/ops/dispatch.h"
#include "core/ops/reference/embedding.h"
#include "glog/logging.h"

namespace strake {
namespace {

// `table` and `positions` are the parameters or their gradients, `y` the output or its gradient.
void CheckShapes(const Tensor& tokens, const Tensor& table, const Tensor& positions,
                 int64_t seq_len, int64_t position_offset, const Tensor& y) {
  CheckOnCpu("embedding", y);
  CHECK(tokens.rank() == 1 && tokens.dtype() == DType::kI32 && table.rank() == 2 &&
        table.dtype() == y.dtype() && y.shape() == (Shape{tokens.dim(0), table.dim(1)}))
      << "[embedding] tokens " << tokens.ToString() << ", table " << table.ToString() << ", y "
      << y.ToString();
  CHECK(seq_len > 0 && tokens.dim(0) % seq_len == 0)
      << "[embedding] tokens " << tokens.ToString() << " in sequences of " << seq_len;
  if (!positions.defined()) return;
  CHECK(positions.rank() == 2 && positions.dim(1) == table.dim(1) &&
        positions.dtype() == y.dtype() && position_offset >= 0 &&
        position_offset + seq_len <= positions.dim(0))
      << "[embedding] table " << table.ToString() << ", positions " << positions.ToString()
      << ", sequences of " << seq_len << " from position " << position_offset;
}

absl::Status CheckTokens(const Tensor& tokens, int64_t vocab_size) {
  const int32_t* values = tokens.data<int32_t>();
  for (int64_t n = 0; n < tokens.dim(0); ++n) {
    if (values[n] >= 0 && values[n] < vocab_size) continue;
    return absl::InvalidArgumentError(absl::StrCat("[embedding] token ", n, " of ", tokens.dim(0),
                                                   " is ", values[n], ", outside the table's [0, ",
                                                   vocab_size, ")"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status EmbeddingForward(const Context& ctx, const Tensor& tokens, const Tensor& table,
                              const Tensor& positions, int64_t seq_len, int64_t position_offset,
                              Tensor y) {
  CheckShapes(tokens, table, positions, seq_len, position_offset, y);
  if (ctx.dry_run()) return absl::OkStatus();
  const OpTimer timer(ctx.profile(), "embedding", ctx.pass());
  if (absl::Status status = CheckTokens(tokens, table.dim(0)); !status.ok()) return status;
  const int64_t columns = table.dim(1);
  DispatchReference("embedding", y.dtype(), [&]<typename Scalar>() {
    const Scalar* first_position =
        positions.defined() ? positions.data<Scalar>() + position_offset * columns : nullptr;
    ctx.team().ParallelFor(tokens.dim(0), RowGrain(columns), [&](int64_t begin, int64_t end) {
      reference::EmbeddingForward(tokens.data<int32_t>(), table.data<Scalar>(), first_position,
                                  seq_len, columns, begin, end, y.data<Scalar>());
    });
  });
  return absl::OkStatus();
}

absl::Status EmbeddingBackward(const Context& ctx, const Tensor& dy, const Tensor& tokens,
                               int64_t seq_len, Tensor dtable, Tensor dpositions) {
  CheckShapes(tokens, dtable, dpositions, seq_len, 0, dy);
  if (ctx.dry_run()) return absl::OkStatus();
  const OpTimer timer(ctx.profile(), "embedding", ctx.pass());
  if (absl::Status status = CheckTokens(tokens, dtable.dim(0)); !status.ok()) return status;
  const int64_t columns = dtable.dim(1);
  DispatchReference("embedding", dy.dtype(), [&]<typename Scalar>() {
    Scalar* positions = dpositions.defined() ? dpositions.data<Scalar>() : nullptr;
    // A thread owns columns, not tokens: equal tokens meet in one row of the table.
    ctx.team().ParallelFor(columns, kColumnGrain, [&](int64_t begin, int64_t end) {
      reference::EmbeddingBackward(dy.data<Scalar>(), tokens.data<int32_t>(), tokens.dim(0),
                                   seq_len, columns, begin, end, dtable.data<Scalar>(), positions);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
