// ContextOperands: what a pass of attention over context-parallel ranks reads, and how its tensors
// are laid out.
//
// B sequences of T tokens in 2C chunks of c, H query heads, KV key/value heads, D head size. Keys
// and values that move are packed chunk by chunk, [2, B, c, 2 KV D], so that a message is a run of
// rows.
#ifndef STRAKE_PARALLEL_CONTEXT_CONTEXT_OPERANDS_H_
#define STRAKE_PARALLEL_CONTEXT_CONTEXT_OPERANDS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/device/context.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/attention/partial_attention.h"
#include "core/ops/documents.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"
#include "parallel/context/context_parallel.h"

namespace strake {

// to[:, to_column + j] = from[:, from_column + j] for j < columns, of two matrices.
absl::Status CopyColumns(const Context& ctx, const Tensor& from, int64_t from_column,
                         int64_t columns, const Tensor& to, int64_t to_column);

// Rows of the chunks [chunks.begin, chunks.end) of packed keys and values, [2*B*c, 2 KV D].
Tensor ChunkRows(const Tensor& packed, const ShardRange& chunks);

struct ContextOperands {
  const Context& ctx;
  const ContextParallel& cp;
  const Tensor& qkv;  // [B*T/C, (H + 2 KV) * D]
  const AttentionShape& shape;
  const Documents& documents;

  int64_t seq_len() const { return shape.seq_len * cp.size(); }  // T
  int64_t chunk_size() const { return shape.seq_len / 2; }       // c
  int64_t q_columns() const { return shape.num_heads * shape.head_dim; }
  int64_t kv_columns() const { return 2 * shape.num_kv_heads * shape.head_dim; }

  // A dry run communicates only in a group that is made for it.
  bool Communicates() const { return !ctx.dry_run() || cp.communicator().dry_run(); }

  // The position of the first token of a rank's chunk.
  int64_t PositionOf(int rank, int chunk) const {
    return SequenceChunks{rank, cp.size()}.Of(seq_len())[chunk].begin;
  }
  // Queries of the rank's chunk against `keys` among `num_keys` of each sequence.
  PartialAttention Part(int chunk, int64_t num_keys, const TokenSpan& keys) const;

  // Memory for keys and values, or their gradients, of `num_tokens` of each sequence.
  Tensor AllocateKv(DType dtype, int64_t num_tokens) const;
  // packed = the rank's keys and values.
  absl::Status PackKv(const Tensor& packed) const;
  // Sets the columns of keys and values of dqkv to those of `packed`, in its dtype.
  absl::Status UnpackKv(const Tensor& packed, const Tensor& dqkv) const;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_CONTEXT_CONTEXT_OPERANDS_H_
