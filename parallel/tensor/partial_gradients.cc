#include "parallel/tensor/partial_gradients.h"

#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/memory/segment_runs.h"
#include "core/ops/copy/copy.h"
#include "glog/logging.h"

namespace strake {
namespace {

// The number of ranks that have a term of the segment's gradient.
int NumTerms(const ParameterSegment& segment) {
  return segment.slice.partial_grad ? segment.slice.num_holders : 1;
}

// The number of terms that is neither one nor all; 1 where there is no such segment.
int NumKvHolders(const ParameterArena& parameters, int num_ranks) {
  int num_holders = 1;
  for (const ParameterRecord& record : parameters.records()) {
    for (const ParameterSegment& segment : record.segments) {
      const int num_terms = NumTerms(segment);
      if (num_terms == 1 || num_terms == num_ranks) continue;
      CHECK(num_ranks % num_terms == 0 && (num_holders == 1 || num_holders == num_terms))
          << "[partial_gradients] " << segment.name << " has " << num_terms << " holders of "
          << num_ranks << " ranks, another segment " << num_holders;
      num_holders = num_terms;
    }
  }
  return num_holders;
}

// The segments whose gradients have terms on `num_terms` ranks.
std::vector<SegmentBlock> Blocks(const ParameterArena& parameters, int num_terms,
                                 const ShardRange& range) {
  std::vector<SegmentBlock> blocks;
  for (const ParameterRecord& record : parameters.records()) {
    for (const SegmentBlock& block : SegmentBlocks(
             record, range,
             [&](const ParameterSegment& segment) { return NumTerms(segment) == num_terms; })) {
      blocks.push_back(block);
    }
  }
  return blocks;
}

int64_t CountElements(const ParameterArena& parameters, int num_terms, const ShardRange& range) {
  int64_t n = 0;
  if (num_terms == 1) return n;
  for (const SegmentBlock& block : Blocks(parameters, num_terms, range)) n += block.num_elements();
  return n;
}

// Copies between the blocks within the gradients and staging [their elements], where they are
// contiguous.
enum class Direction { kToStaging, kToGrads };

absl::Status CopyBlocks(const Context& ctx, const std::vector<SegmentBlock>& blocks,
                        const ArenaPart& grads, const Tensor& staging, Direction direction) {
  int64_t at = 0;
  for (const SegmentBlock& block : blocks) {
    const int64_t end = at + block.num_elements();
    const Tensor in_grads = grads.Rows({block.begin, block.end()});
    const Tensor packed = staging.Rows(at, end);
    STRAKE_RETURN_IF_ERROR(direction == Direction::kToStaging
                               ? CopyRows(ctx, in_grads, block.stride, block.rows, block.columns,
                                          packed, block.columns)
                               : CopyRows(ctx, packed, block.columns, block.rows, block.columns,
                                          in_grads, block.stride));
    at = end;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PartialGradients> PartialGradients::Create(const ParameterArena& parameters,
                                                          const TensorParallel& tp) {
  PartialGradients partial(parameters, tp);
  const int num_holders = NumKvHolders(parameters, tp.size());
  if (num_holders == 1) return partial;
  STRAKE_ASSIGN_OR_RETURN(partial.kv_communicator_,
                          tp.communicator().SplitNeighbours(num_holders, "kv"));
  partial.kv_ = TensorParallel(*partial.kv_communicator_);
  return partial;
}

PartialElements PartialGradients::Count(const ParameterArena& parameters, int num_ranks,
                                        const std::vector<ShardRange>& ranges) {
  const int num_holders = NumKvHolders(parameters, num_ranks);
  PartialElements count;
  for (const ShardRange& range : ranges) {
    count.all_ranks += CountElements(parameters, num_ranks, range);
    count.kv_holders += CountElements(parameters, num_holders, range);
  }
  return count;
}

absl::Status PartialGradients::Sum(const Context& ctx, const std::vector<ArenaPart>& grads) const {
  for (const ArenaPart& part : grads) {
    CHECK(part.values.rank() == 1 && part.begin >= 0 && part.end() <= parameters_->num_elements())
        << "[partial_gradients] grads " << part.values.ToString() << " from " << part.begin
        << " of " << parameters_->num_elements() << " elements";
  }
  const LayerScope layer(ctx, "partial gradients");
  STRAKE_RETURN_IF_ERROR(SumOver(ctx, tp_, grads));
  return SumOver(ctx, kv_, grads);
}

absl::Status PartialGradients::SumOver(const Context& ctx, const TensorParallel& holders,
                                       const std::vector<ArenaPart>& grads) const {
  if (holders.size() == 1) return absl::OkStatus();
  std::vector<int64_t> ends;  // in staging, by part
  for (const ArenaPart& part : grads) {
    ends.push_back((ends.empty() ? 0 : ends.back()) +
                   CountElements(*parameters_, holders.size(), part.range()));
  }
  if (ends.empty() || ends.back() == 0) return absl::OkStatus();
  const ActivationScope scope(ctx.arena());
  const Tensor staging = ctx.arena().Allocate(grads[0].values.dtype(), {ends.back()});
  const auto copy = [&](Direction direction) -> absl::Status {
    for (size_t i = 0; i < grads.size(); ++i) {
      STRAKE_RETURN_IF_ERROR(CopyBlocks(ctx, Blocks(*parameters_, holders.size(), grads[i].range()),
                                        grads[i], staging.Rows(i == 0 ? 0 : ends[i - 1], ends[i]),
                                        direction));
    }
    return absl::OkStatus();
  };
  STRAKE_RETURN_IF_ERROR(copy(Direction::kToStaging));
  STRAKE_RETURN_IF_ERROR(holders.AllReduceSum(ctx, staging));
  return copy(Direction::kToGrads);
}

}  // namespace strake
