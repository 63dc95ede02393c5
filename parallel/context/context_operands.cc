#include "parallel/context/context_operands.h"

#include <algorithm>

#include "absl/functional/function_ref.h"
#include "core/base/status_macros.h"
#include "core/ops/copy/copy.h"

namespace strake {
namespace {

// The columns of a matrix from `begin` on, as copy_rows takes them.
Tensor ColumnsOf(const Tensor& matrix, int64_t begin, int64_t columns) {
  const int64_t rows = matrix.dim(0), stride = matrix.dim(1);
  const Tensor elements = matrix.Reshape({rows * stride});
  return rows == 0 ? elements : elements.Rows(begin, (rows - 1) * stride + begin + columns);
}

// Calls body(rows in the rank's order, rows of the packed matrix) for each chunk of each sequence.
absl::Status ForEachChunk(const AttentionShape& shape, const Tensor& local, const Tensor& packed,
                          absl::FunctionRef<absl::Status(const Tensor&, const Tensor&)> body) {
  const int64_t size = shape.seq_len / 2;
  for (int64_t b = 0; b < shape.batch; ++b) {
    for (const int64_t chunk : {0, 1}) {
      const int64_t at = (2 * b + chunk) * size, packed_at = (chunk * shape.batch + b) * size;
      STRAKE_RETURN_IF_ERROR(
          body(local.Rows(at, at + size), packed.Rows(packed_at, packed_at + size)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CopyColumns(const Context& ctx, const Tensor& from, int64_t from_column,
                         int64_t columns, const Tensor& to, int64_t to_column) {
  return CopyRows(ctx, ColumnsOf(from, from_column, columns), from.dim(1), from.dim(0), columns,
                  ColumnsOf(to, to_column, columns), to.dim(1));
}

Tensor ChunkRows(const Tensor& packed, const ShardRange& chunks) {
  const int64_t rows = packed.dim(0) / 2;
  return packed.Rows(chunks.begin * rows, chunks.end * rows);
}

PartialAttention ContextOperands::Part(int chunk, int64_t num_keys, const TokenSpan& keys) const {
  return {.shape = shape,
          .num_keys = num_keys,
          .queries = {.row = chunk * chunk_size(),
                      .position = PositionOf(cp.rank(), chunk),
                      .count = chunk_size()},
          .keys = keys};
}

Tensor ContextOperands::AllocateKv(DType dtype, int64_t num_tokens) const {
  return ctx.arena().Allocate(dtype, {shape.batch * num_tokens, kv_columns()});
}

absl::Status ContextOperands::PackKv(const Tensor& packed) const {
  return ForEachChunk(shape, qkv, packed, [&](const Tensor& local, const Tensor& to) {
    return CopyColumns(ctx, local, q_columns(), kv_columns(), to, 0);
  });
}

absl::Status ContextOperands::UnpackKv(const Tensor& packed, const Tensor& dqkv) const {
  return ForEachChunk(shape, dqkv, packed, [&](const Tensor& local, const Tensor& from) {
    return CopyColumns(ctx, from, 0, kv_columns(), local, q_columns());
  });
}

}  // namespace strake
