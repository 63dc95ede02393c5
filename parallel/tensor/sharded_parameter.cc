#include "parallel/tensor/sharded_parameter.h"

#include <algorithm>
#include <utility>

#include "glog/logging.h"

namespace strake {
namespace {

void SetHolders(const ShardRange& holders, int rank, SegmentSlice* slice) {
  slice->num_holders = static_cast<int>(holders.size());
  slice->owner = holders.begin == rank;
}

// Returns the columns of the tensor that the segment is, or is a part of.
int64_t FullColumns(const ParameterSegment& segment) {
  return std::max(segment.columns, segment.slice.full_columns);
}

// The overlaps of the whole weight's segments, side by side, with the rank's pieces.
std::vector<ParameterSegment> CutColumns(const std::vector<ParameterSegment>& segments,
                                         const WeightShards& shards, int rank) {
  const Shape& full = shards.full_shape();
  const int64_t rows = full.size() == 1 ? 1 : full[0];
  std::vector<ParameterSegment> cut;
  for (const WeightShards::Piece& piece : shards.Pieces(rank)) {
    int64_t segment_begin = 0;
    for (const ParameterSegment& segment : segments) {
      const int64_t segment_end = segment_begin + segment.columns;
      const int64_t begin = std::max(segment_begin, piece.full.range.begin);
      const int64_t end = std::min(segment_end, piece.full.range.end);
      if (begin < end) {
        ParameterSegment& part = cut.emplace_back(segment);
        part.columns = end - begin;
        part.slice = {.full_rows = rows,
                      .full_columns = FullColumns(segment),
                      .column_begin = segment.slice.column_begin + begin - segment_begin,
                      .num_rows = rows};
        SetHolders(piece.full.holders, rank, &part.slice);
        part.slice.partial_grad = part.slice.num_holders > 1;
      }
      segment_begin = segment_end;
    }
  }
  return cut;
}

std::vector<ParameterSegment> CutRows(std::vector<ParameterSegment> segments,
                                      const WeightShards& shards, int rank) {
  const std::vector<WeightShards::Piece>& pieces = shards.Pieces(rank);
  CHECK_EQ(pieces.size(), 1u) << "[sharded_parameter] rows of " << segments.front().name
                              << " in segments";
  const HeldRange& held = pieces.front().full;
  for (ParameterSegment& segment : segments) {
    segment.slice = {.full_rows = shards.full_shape()[0],
                     .full_columns = segment.columns,
                     .row_begin = held.range.begin,
                     .num_rows = held.range.size()};
    SetHolders(held.holders, rank, &segment.slice);
  }
  return segments;
}

}  // namespace

Parameter* AddShardedParameter(const std::vector<ParameterSegment>& segments,
                               const WeightShards& shards, const TensorParallel& tp,
                               bool weight_decay, WeightInit init, ParameterArena* arena) {
  CHECK_EQ(shards.num_ranks(), tp.size()) << "[sharded_parameter] " << segments.front().name;
  const bool columns = shards.dim() == static_cast<int>(shards.full_shape().size()) - 1;
  return arena->Add(
      columns ? CutColumns(segments, shards, tp.rank()) : CutRows(segments, shards, tp.rank()),
      shards.shard_shape(), weight_decay, init);
}

Parameter* AddReplicatedParameter(std::vector<ParameterSegment> segments, Shape shape,
                                  const TensorParallel& tp, ReplicatedGrad grad, bool weight_decay,
                                  WeightInit init, ParameterArena* arena) {
  const int64_t rows = shape.size() == 1 ? 1 : shape[0];
  for (ParameterSegment& segment : segments) {
    segment.slice = {.full_rows = rows,
                     .full_columns = segment.columns,
                     .num_rows = rows,
                     .num_holders = tp.size(),
                     .owner = tp.rank() == 0,
                     .partial_grad = tp.size() > 1 && grad == ReplicatedGrad::kPartial};
  }
  return arena->Add(std::move(segments), std::move(shape), weight_decay, init);
}

}  // namespace strake
