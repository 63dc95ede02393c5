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

int64_t NumElements(const std::vector<SegmentBlock>& blocks) {
  int64_t n = 0;
  for (const SegmentBlock& block : blocks) n += block.num_elements();
  return n;
}

int64_t CountElements(const ParameterArena& parameters, int num_terms, const ShardRange& range) {
  return num_terms == 1 ? 0 : NumElements(Blocks(parameters, num_terms, range));
}

// Copies between the blocks within grads [range.size()] and staging [their elements], where they
// are contiguous.
enum class Direction { kToStaging, kToGrads };

absl::Status CopyBlocks(const Context& ctx, const std::vector<SegmentBlock>& blocks,
                        const ShardRange& range, const Tensor& grads, const Tensor& staging,
                        Direction direction) {
  int64_t at = 0;
  for (const SegmentBlock& block : blocks) {
    const int64_t end = at + block.num_elements();
    const Tensor in_grads = grads.Rows(block.begin - range.begin, block.end() - range.begin);
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
                                        const ShardRange& range) {
  return {.all_ranks = CountElements(parameters, num_ranks, range),
          .kv_holders = CountElements(parameters, NumKvHolders(parameters, num_ranks), range)};
}

absl::Status PartialGradients::Sum(const Context& ctx, const ShardRange& range,
                                   Tensor grads) const {
  CHECK(grads.shape() == Shape{range.size()} && range.begin >= 0 &&
        range.end <= parameters_->num_elements())
      << "[partial_gradients] grads " << grads.ToString() << " for [" << range.begin << ", "
      << range.end << ") of " << parameters_->num_elements() << " elements";
  const LayerScope layer(ctx.recorder(), "partial gradients");
  STRAKE_RETURN_IF_ERROR(SumOver(ctx, tp_, range, grads));
  return SumOver(ctx, kv_, range, grads);
}

absl::Status PartialGradients::SumOver(const Context& ctx, const TensorParallel& holders,
                                       const ShardRange& range, const Tensor& grads) const {
  if (holders.size() == 1) return absl::OkStatus();
  const std::vector<SegmentBlock> blocks = Blocks(*parameters_, holders.size(), range);
  if (blocks.empty()) return absl::OkStatus();
  const ActivationScope scope(ctx.arena());
  const Tensor staging = ctx.arena().Allocate(grads.dtype(), {NumElements(blocks)});
  STRAKE_RETURN_IF_ERROR(CopyBlocks(ctx, blocks, range, grads, staging, Direction::kToStaging));
  STRAKE_RETURN_IF_ERROR(holders.AllReduceSum(ctx, staging));
  return CopyBlocks(ctx, blocks, range, grads, staging, Direction::kToGrads);
}

}  // namespace strake
