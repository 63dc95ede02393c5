// Which part of each weight a tensor-parallel rank holds: index arithmetic and copies, no
// communication.
//
//   columns   rank t of T holds [t*out/T, (t+1)*out/T) of W [in, out] and of a bias [out]
//   rows      rank t holds [t*in/T, (t+1)*in/T) of W [in, out]
//   heads     rank t holds query heads [t*H/T, (t+1)*H/T) of H, and of KV key/value heads
//               [t*KV/T, (t+1)*KV/T)   where T divides KV
//               t / (T/KV)             where KV divides T: T/KV neighbours hold the same head
//   fused     the segments of a dimension ([Q | K | V], [gate | up]) are each cut as above; rank
//             t holds its part of every one, in their order: [Q_t | K_t | V_t]
//   tokens    rank t holds [t*P/T, (t+1)*P/T) of the vocabulary V padded to P; the entries [V, P),
//             at the end of the last ranks' shards, belong to no token
//
// t is `rank` and T `num_ranks`; all ranges are half-open. All of a weight's shards have one shape.
// CHECKs that T is positive and 0 <= t < T. InvalidArgument, with both numbers and the name of the
// dimension, where a size does not divide: nothing is ever dropped.
#ifndef STRAKE_PARALLEL_TENSOR_SHARD_H_
#define STRAKE_PARALLEL_TENSOR_SHARD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/dtype.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"

namespace strake {

// A range and the neighbouring ranks that all hold it. The first of them is its owner, which counts
// the range where each element counts once.
struct HeldRange {
  ShardRange range;
  ShardRange holders;

  bool operator==(const HeldRange&) const = default;
};

// [t*size/T, (t+1)*size/T). InvalidArgument, with `dim_name` ("columns"), where T does not divide
// `size`.
absl::StatusOr<ShardRange> EvenShard(absl::string_view dim_name, int64_t size, int num_ranks,
                                     int rank);

// Of W [in, out]: EvenShard of its columns, and of its rows.
absl::StatusOr<ShardRange> ColumnShard(int64_t out, int num_ranks, int rank);
absl::StatusOr<ShardRange> RowShard(int64_t in, int num_ranks, int rank);

// The attention heads of one rank. Query head q attends to key/value head q / (H/KV), which is
// always among its rank's own.
struct AttentionHeads {
  ShardRange query;
  HeldRange key_value;
};

// InvalidArgument where T does not divide H, KV does not divide H, or neither of T and KV divides
// the other.
absl::StatusOr<AttentionHeads> AttentionHeadShard(int64_t num_heads, int64_t num_kv_heads,
                                                  int num_ranks, int rank);

// The vocabulary entries of one rank.
struct VocabRange {
  int64_t padded_size = 0;  // P, of the whole vocabulary
  ShardRange held;          // of [0, P)
  ShardRange tokens;        // of [0, V): the real tokens of `held`; empty, at V, if there are none

  int64_t num_padding() const { return held.size() - tokens.size(); }
};

// The multiple that a model's vocabulary is rounded up to: each of T ranks holds a multiple of 128
// tokens, where GPUs' matrix products are fast. A vocabulary below 4096 would grow too much by
// that; its ranks just hold equally many tokens.
int64_t VocabMultiple(int64_t vocab_size, int num_ranks);

// P is V rounded up to a multiple of T and of `multiple`.
VocabRange VocabShard(int64_t vocab_size, int num_ranks, int rank, int64_t multiple);
inline VocabRange VocabShard(int64_t vocab_size, int num_ranks, int rank) {
  return VocabShard(vocab_size, num_ranks, rank, VocabMultiple(vocab_size, num_ranks));
}

// A part of a fused dimension: `num_units` units (heads) of `unit_size` indices, which are never
// cut. Where `replicable`, units are replicated, as key/value heads are, if their number divides T.
struct ShardSegment {
  std::string name;  // of the units, for errors: "query heads"
  int64_t num_units = 0;
  int64_t unit_size = 1;
  bool replicable = false;

  int64_t size() const { return num_units * unit_size; }
};

// [Q | K | V]: sizes H*head_dim, KV*head_dim, KV*head_dim, for heads that AttentionHeadShard
// accepts.
std::vector<ShardSegment> QkvSegments(int64_t num_heads, int64_t num_kv_heads, int64_t head_dim);
// [gate | up]: sizes `hidden`, `hidden`.
std::vector<ShardSegment> GateUpSegments(int64_t hidden);

// Numbers of elements, or of bytes, in one rank's shards.
struct ShardSizes {
  int64_t sharded = 0;     // held by this rank alone
  int64_t replicated = 0;  // held by other ranks too
  int64_t padding = 0;     // part of no full weight
  int64_t owned = 0;       // sharded, and of the replicated those that this rank owns: over all
                           // ranks these add up to the full weights

  // The size that is allocated.
  int64_t total() const { return sharded + replicated + padding; }
  ShardSizes& operator+=(const ShardSizes& other);
  bool operator==(const ShardSizes&) const = default;
};

// How one weight, of any dtype and at least one dimension, is sharded over T ranks.
class WeightShards {
 public:
  // One run of the cut dimension: indices `full.range` of the full weight lie in the shard from
  // `local_begin` on, and in the shards of all `full.holders`.
  struct Piece {
    HeldRange full;
    int64_t local_begin = 0;
  };

  // Every rank holds the whole weight: norms, and the biases of row-parallel layers.
  static WeightShards Replicated(Shape full_shape, int num_ranks);

  // Cuts dimension `dim` (negative counts from the last) segment by segment; a plain dimension is a
  // single segment. CHECKs that the segments add up to it. InvalidArgument, naming the units, where
  // a segment can be neither divided nor replicated.
  static absl::StatusOr<WeightShards> Split(Shape full_shape, int dim,
                                            const std::vector<ShardSegment>& segments,
                                            int num_ranks);

  // Cuts dimension `dim`, the vocabulary V; the full weight has no padding.
  static WeightShards Vocab(Shape full_shape, int dim, int num_ranks, int64_t multiple);
  static WeightShards Vocab(Shape full_shape, int dim, int num_ranks);

  int num_ranks() const { return static_cast<int>(pieces_.size()); }
  const Shape& full_shape() const { return full_shape_; }
  // The shape on every rank, padding included.
  const Shape& shard_shape() const { return shard_shape_; }
  // The dimension that is cut; 0 for a replicated weight.
  int dim() const { return dim_; }

  // The rank's pieces, one per segment, in the shard's order without gaps. The rest of the shard is
  // padding.
  const std::vector<Piece>& Pieces(int rank) const;

  ShardSizes NumElements(int rank) const;
  ShardSizes NumBytes(int rank, DType dtype) const;

  // shard [shard_shape] = the rank's part of full [full_shape]; padding = 0.
  void Slice(const Tensor& full, int rank, Tensor shard) const;

  // Writes the part of full [full_shape] that the rank owns, from shard [shard_shape]; the rest of
  // `full` keeps its values. One call for each rank, in any order, writes each element of `full`
  // exactly once.
  void Place(const Tensor& shard, int rank, Tensor full) const;

  // Place() for all ranks: full = shards[0], ..., shards[T-1] joined.
  void Join(absl::Span<const Tensor> shards, Tensor full) const;

 private:
  WeightShards(Shape full_shape, int dim, int num_ranks);

  int64_t PaddingBegin(int rank) const;
  void CheckTensors(const char* what, const Tensor& full, const Tensor& shard) const;

  Shape full_shape_, shard_shape_;
  int dim_;
  std::vector<std::vector<Piece>> pieces_;  // by rank
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_TENSOR_SHARD_H_
