#include "parallel/context/gathered_attention.h"

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "core/base/op_profile.h"
#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "core/ops/attention/partial_attention.h"
#include "core/ops/copy/copy.h"
#include "parallel/comm/communicator.h"

namespace strake {
namespace {

// Kernels of the CPU cut keys into tiles of this many from position 0 on, which decides bits.
constexpr int64_t kKeyTile = 64;

// A rank's packed keys and values among those of all ranks, [C*B*T/C, 2 KV D].
Tensor PieceOf(const Tensor& pieces, const ContextOperands& a, int rank) {
  const int64_t rows = pieces.dim(0) / a.cp.size();
  return pieces.Rows(rank * rows, (rank + 1) * rows);
}

// Calls body(the chunk [B, c * 2 KV D], its first column in the sequences [B, T * 2 KV D]) for each
// chunk of each rank.
absl::Status ForEachChunk(const ContextOperands& a, const Tensor& pieces,
                          absl::FunctionRef<absl::Status(const Tensor&, int64_t)> body) {
  for (int rank = 0; rank < a.cp.size(); ++rank) {
    for (const int chunk : {0, 1}) {
      const Tensor rows = ChunkRows(PieceOf(pieces, a, rank), {chunk, chunk + 1});
      STRAKE_RETURN_IF_ERROR(body(rows.Reshape({a.shape.batch, a.chunk_size() * a.kv_columns()}),
                                  a.PositionOf(rank, chunk) * a.kv_columns()));
    }
  }
  return absl::OkStatus();
}

// Matrix of one row for each sequence.
Tensor Sequences(const ContextOperands& a, const Tensor& all) {
  return all.Reshape({a.shape.batch, a.seq_len() * a.kv_columns()});
}

// all [B*T, 2 KV D] = the keys and values of all ranks, in the order of the sequences.
absl::Status GatherKv(const ContextOperands& a, const Tensor& all) {
  const ActivationScope scope(a.ctx.arena());
  const Tensor pieces = a.AllocateKv(all.dtype(), a.seq_len());
  const Tensor own = PieceOf(pieces, a, a.cp.rank());
  STRAKE_RETURN_IF_ERROR(a.PackKv(own));
  if (a.Communicates()) {
    const OpTimer timer(a.ctx.profile(), "all_gather", a.ctx.pass());
    STRAKE_RETURN_IF_ERROR(a.cp.communicator().AllGather(own, pieces).Wait().status());
  }
  return ForEachChunk(a, pieces, [&](const Tensor& chunk, int64_t column) {
    return CopyColumns(a.ctx, chunk, 0, chunk.dim(1), Sequences(a, all), column);
  });
}

// dkv = the sum over ranks of their gradients of the rank's keys and values; `all` [B*T, 2 KV D]
// are those of this rank's queries.
absl::Status SumGradients(const ContextOperands& a, const Tensor& all, const Tensor& dkv) {
  const ActivationScope scope(a.ctx.arena());
  const Tensor pieces = a.AllocateKv(all.dtype(), a.seq_len());
  STRAKE_RETURN_IF_ERROR(ForEachChunk(a, pieces, [&](const Tensor& chunk, int64_t column) {
    return CopyColumns(a.ctx, Sequences(a, all), column, chunk.dim(1), chunk, 0);
  }));
  if (!a.Communicates()) return absl::OkStatus();
  const OpTimer timer(a.ctx.profile(), "reduce_scatter", a.ctx.pass());
  return a.cp.communicator().ReduceScatterSum(pieces, dkv).Wait().status();
}

// The queries of a chunk against all keys that they see.
PartialAttention PartOf(const ContextOperands& a, int chunk) {
  const int64_t position = a.PositionOf(a.cp.rank(), chunk);
  const int64_t first = a.shape.FirstKey(position) / kKeyTile * kKeyTile;
  return a.Part(chunk, a.seq_len(),
                {.row = first, .position = first, .count = position + a.chunk_size() - first});
}

}  // namespace

absl::Status GatheredAttentionForward(const ContextOperands& a, const Tensor& y,
                                      const Tensor& lse) {
  const Tensor kv = a.AllocateKv(a.qkv.dtype(), a.seq_len());
  STRAKE_RETURN_IF_ERROR(GatherKv(a, kv));
  for (const int chunk : {0, 1}) {
    STRAKE_RETURN_IF_ERROR(PartialAttentionForward(a.ctx, a.qkv, kv, PartOf(a, chunk),
                                                   /*merge=*/false, y, lse, a.documents));
  }
  return absl::OkStatus();
}

absl::Status GatheredAttentionBackward(const ContextOperands& a, const Tensor& dy, const Tensor& y,
                                       const Tensor& lse, const Tensor& dq, const Tensor& dkv) {
  const Tensor kv = a.AllocateKv(a.qkv.dtype(), a.seq_len());
  const Tensor dkv_of_all = a.AllocateKv(dkv.dtype(), a.seq_len());
  STRAKE_RETURN_IF_ERROR(GatherKv(a, kv));
  STRAKE_RETURN_IF_ERROR(SetZero(a.ctx, dkv_of_all));
  for (const int chunk : {0, 1}) {
    STRAKE_RETURN_IF_ERROR(PartialAttentionBackward(a.ctx, dy, a.qkv, kv, y, lse, PartOf(a, chunk),
                                                    dq, dkv_of_all, a.documents));
  }
  return SumGradients(a, dkv_of_all, dkv);
}

}  // namespace strake
