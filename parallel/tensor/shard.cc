#include "parallel/tensor/shard.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {

void CheckRank(int num_ranks, int rank) {
  CHECK(num_ranks > 0 && 0 <= rank && rank < num_ranks)
      << "[shard] rank " << rank << " of " << num_ranks;
}

ShardRange NthOfEqual(int64_t size, int64_t count, int64_t n) {
  return {size / count * n, size / count * (n + 1)};
}

absl::Status UnitsError(const ShardSegment& segment, int num_ranks) {
  return absl::InvalidArgumentError(
      absl::StrCat("[shard] ", segment.num_units, " ", segment.name,
                   " can be neither divided over nor replicated on ", num_ranks,
                   " tensor-parallel ranks: choose a tensor-parallel size that divides ",
                   segment.num_units, " or is a multiple of it"));
}

absl::StatusOr<HeldRange> ShardUnits(const ShardSegment& segment, int num_ranks, int rank) {
  CheckRank(num_ranks, rank);
  const int64_t units = segment.num_units;
  if (!segment.replicable || units % num_ranks == 0) {
    STRAKE_ASSIGN_OR_RETURN(const ShardRange range,
                            EvenShard(segment.name, units, num_ranks, rank));
    return HeldRange{range, {rank, rank + 1}};
  }
  if (num_ranks % units != 0) return UnitsError(segment, num_ranks);
  const int64_t num_holders = num_ranks / units;
  const int64_t unit = rank / num_holders;
  return HeldRange{{unit, unit + 1}, {unit * num_holders, (unit + 1) * num_holders}};
}

// A tensor as [outer, dim, inner bytes], for copies of ranges of `dim`.
struct Blocks {
  Blocks(const Tensor& x, int dim)
      : data(static_cast<char*>(x.raw())), size(x.dim(dim)), inner_bytes(DTypeSize(x.dtype())) {
    for (int i = 0; i < dim; ++i) outer *= x.dim(i);
    for (int i = dim + 1; i < x.rank(); ++i) inner_bytes *= x.dim(i);
  }
  char* At(int64_t o, int64_t index) const { return data + (o * size + index) * inner_bytes; }

  char* data;
  int64_t outer = 1;
  int64_t size;
  int64_t inner_bytes;
};

void CopyRange(const Blocks& from, int64_t from_begin, const Blocks& to, int64_t to_begin,
               int64_t count) {
  const size_t num_bytes = count * from.inner_bytes;
  // Empty tensors may have null data, which memcpy() does not allow.
  if (num_bytes == 0) return;
  for (int64_t o = 0; o < from.outer; ++o) {
    std::memcpy(to.At(o, to_begin), from.At(o, from_begin), num_bytes);
  }
}

void ZeroRange(const Blocks& x, int64_t begin, int64_t end) {
  const size_t num_bytes = (end - begin) * x.inner_bytes;
  if (num_bytes == 0) return;
  for (int64_t o = 0; o < x.outer; ++o) std::memset(x.At(o, begin), 0, num_bytes);
}

}  // namespace

absl::StatusOr<ShardRange> EvenShard(absl::string_view dim_name, int64_t size, int num_ranks,
                                     int rank) {
  CheckRank(num_ranks, rank);
  CHECK_GE(size, 0) << "[shard] " << dim_name;
  if (size % num_ranks != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("[shard] ", size, " ", dim_name, " cannot be divided over ", num_ranks,
                     " tensor-parallel ranks: choose a tensor-parallel size that divides ", size));
  }
  return NthOfEqual(size, num_ranks, rank);
}

absl::StatusOr<ShardRange> ColumnShard(int64_t out, int num_ranks, int rank) {
  return EvenShard("columns", out, num_ranks, rank);
}

absl::StatusOr<ShardRange> RowShard(int64_t in, int num_ranks, int rank) {
  return EvenShard("rows", in, num_ranks, rank);
}

std::vector<ShardSegment> QkvSegments(int64_t num_heads, int64_t num_kv_heads, int64_t head_dim) {
  const ShardSegment key_value = {"key/value heads", num_kv_heads, head_dim, true};
  return {{"query heads", num_heads, head_dim}, key_value, key_value};
}

std::vector<ShardSegment> GateUpSegments(int64_t hidden) {
  return {{"columns of gate", hidden}, {"columns of up", hidden}};
}

absl::StatusOr<AttentionHeads> AttentionHeadShard(int64_t num_heads, int64_t num_kv_heads,
                                                  int num_ranks, int rank) {
  CHECK(num_heads > 0 && num_kv_heads > 0)
      << "[shard] " << num_heads << " query heads, " << num_kv_heads << " key/value heads";
  if (num_heads % num_kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "[shard] ", num_heads, " query heads cannot be divided over ", num_kv_heads,
        " key/value heads: choose a number of key/value heads that divides ", num_heads));
  }
  const std::vector<ShardSegment> qkv = QkvSegments(num_heads, num_kv_heads, /*head_dim=*/1);
  AttentionHeads heads;
  STRAKE_ASSIGN_OR_RETURN(const HeldRange query, ShardUnits(qkv[0], num_ranks, rank));
  heads.query = query.range;
  STRAKE_ASSIGN_OR_RETURN(heads.key_value, ShardUnits(qkv[1], num_ranks, rank));
  return heads;
}

int64_t VocabMultiple(int64_t vocab_size, int num_ranks) {
  constexpr int64_t kTile = 128, kLeastPadded = 4096;
  return vocab_size < kLeastPadded ? num_ranks : kTile * num_ranks;
}

VocabRange VocabShard(int64_t vocab_size, int num_ranks, int rank, int64_t multiple) {
  CheckRank(num_ranks, rank);
  CHECK(vocab_size >= 0 && multiple > 0)
      << "[shard] vocabulary of " << vocab_size << " to a multiple of " << multiple;
  const int64_t step = std::lcm<int64_t>(num_ranks, multiple);
  VocabRange vocab;
  vocab.padded_size = (vocab_size + step - 1) / step * step;
  vocab.held = NthOfEqual(vocab.padded_size, num_ranks, rank);
  vocab.tokens = {std::min(vocab.held.begin, vocab_size), std::min(vocab.held.end, vocab_size)};
  return vocab;
}

ShardSizes& ShardSizes::operator+=(const ShardSizes& other) {
  sharded += other.sharded;
  replicated += other.replicated;
  padding += other.padding;
  owned += other.owned;
  return *this;
}

WeightShards::WeightShards(Shape full_shape, int dim, int num_ranks)
    : full_shape_(std::move(full_shape)), dim_(dim) {
  const int rank = static_cast<int>(full_shape_.size());
  CHECK(-rank <= dim && dim < rank)
      << "[shard] dimension " << dim << " of " << ShapeString(full_shape_);
  if (dim_ < 0) dim_ += rank;
  CHECK_GT(num_ranks, 0) << "[shard] ranks for " << ShapeString(full_shape_);
  shard_shape_ = full_shape_;
  pieces_.resize(num_ranks);
}

WeightShards WeightShards::Replicated(Shape full_shape, int num_ranks) {
  WeightShards shards(std::move(full_shape), 0, num_ranks);
  for (std::vector<Piece>& pieces : shards.pieces_) {
    pieces = {{{{0, shards.full_shape_[0]}, {0, num_ranks}}, 0}};
  }
  return shards;
}

absl::StatusOr<WeightShards> WeightShards::Split(Shape full_shape, int dim,
                                                 const std::vector<ShardSegment>& segments,
                                                 int num_ranks) {
  WeightShards shards(std::move(full_shape), dim, num_ranks);
  int64_t shard_size = 0;
  for (int rank = 0; rank < num_ranks; ++rank) {
    int64_t segment_begin = 0;
    shard_size = 0;
    for (const ShardSegment& segment : segments) {
      STRAKE_ASSIGN_OR_RETURN(const HeldRange units, ShardUnits(segment, num_ranks, rank));
      const ShardRange range = {segment_begin + units.range.begin * segment.unit_size,
                                segment_begin + units.range.end * segment.unit_size};
      shards.pieces_[rank].push_back({{range, units.holders}, shard_size});
      shard_size += range.size();
      segment_begin += segment.size();
    }
    CHECK_EQ(segment_begin, shards.full_shape_[shards.dim_])
        << "[shard] segments of dimension " << shards.dim_ << " of "
        << ShapeString(shards.full_shape_);
  }
  shards.shard_shape_[shards.dim_] = shard_size;
  return shards;
}

WeightShards WeightShards::Vocab(Shape full_shape, int dim, int num_ranks) {
  const int64_t vocab_size = full_shape.at(dim < 0 ? full_shape.size() + dim : dim);
  return Vocab(std::move(full_shape), dim, num_ranks, VocabMultiple(vocab_size, num_ranks));
}

WeightShards WeightShards::Vocab(Shape full_shape, int dim, int num_ranks, int64_t multiple) {
  WeightShards shards(std::move(full_shape), dim, num_ranks);
  const int64_t vocab_size = shards.full_shape_[shards.dim_];
  for (int rank = 0; rank < num_ranks; ++rank) {
    const VocabRange vocab = VocabShard(vocab_size, num_ranks, rank, multiple);
    shards.pieces_[rank] = {{{vocab.tokens, {rank, rank + 1}}, 0}};
    shards.shard_shape_[shards.dim_] = vocab.held.size();
  }
  return shards;
}

const std::vector<WeightShards::Piece>& WeightShards::Pieces(int rank) const {
  CheckRank(num_ranks(), rank);
  return pieces_[rank];
}

int64_t WeightShards::PaddingBegin(int rank) const {
  const std::vector<Piece>& pieces = Pieces(rank);
  return pieces.empty() ? 0 : pieces.back().local_begin + pieces.back().full.range.size();
}

ShardSizes WeightShards::NumElements(int rank) const {
  int64_t per_index = 1;
  for (int i = 0; i < full_shape_.size(); ++i) {
    if (i != dim_) per_index *= full_shape_[i];
  }
  ShardSizes sizes;
  for (const Piece& piece : Pieces(rank)) {
    const int64_t count = piece.full.range.size() * per_index;
    (piece.full.holders.size() == 1 ? sizes.sharded : sizes.replicated) += count;
    if (piece.full.holders.begin == rank) sizes.owned += count;
  }
  sizes.padding = (shard_shape_[dim_] - PaddingBegin(rank)) * per_index;
  return sizes;
}

ShardSizes WeightShards::NumBytes(int rank, DType dtype) const {
  const ShardSizes elements = NumElements(rank);
  const int64_t size = DTypeSize(dtype);
  return {elements.sharded * size, elements.replicated * size, elements.padding * size,
          elements.owned * size};
}

void WeightShards::CheckTensors(const char* what, const Tensor& full, const Tensor& shard) const {
  CHECK(full.shape() == full_shape_ && shard.shape() == shard_shape_ &&
        full.dtype() == shard.dtype())
      << "[shard] " << what << ": full " << full.ToString() << ", shard " << shard.ToString()
      << "; expected full " << ShapeString(full_shape_) << ", shard " << ShapeString(shard_shape_)
      << " of " << num_ranks() << " ranks, and one dtype";
  CHECK(full.device() == Device::kCpu && shard.device() == Device::kCpu)
      << "[shard] " << what << ": copies on the CPU alone";
}

void WeightShards::Slice(const Tensor& full, int rank, Tensor shard) const {
  CheckTensors("slice", full, shard);
  const Blocks from(full, dim_), to(shard, dim_);
  for (const Piece& piece : Pieces(rank)) {
    const ShardRange& range = piece.full.range;
    CopyRange(from, range.begin, to, piece.local_begin, range.size());
  }
  ZeroRange(to, PaddingBegin(rank), to.size);
}

void WeightShards::Place(const Tensor& shard, int rank, Tensor full) const {
  CheckTensors("place", full, shard);
  const Blocks from(shard, dim_), to(full, dim_);
  for (const Piece& piece : Pieces(rank)) {
    if (piece.full.holders.begin != rank) continue;
    const ShardRange& range = piece.full.range;
    CopyRange(from, piece.local_begin, to, range.begin, range.size());
  }
}

void WeightShards::Join(absl::Span<const Tensor> shards, Tensor full) const {
  CHECK_EQ(shards.size(), num_ranks()) << "[shard] shards of " << ShapeString(full_shape_);
  for (int rank = 0; rank < num_ranks(); ++rank) Place(shards[rank], rank, full);
}

}  // namespace strake
