#include "optim/grad_clip.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/base/exact_sum.h"
#include "core/base/status_macros.h"
#include "core/memory/segment_runs.h"
#include "core/ops/clip_scale/clip_scale.h"
#include "core/ops/copy/copy.h"
#include "core/ops/squared_norm/squared_norm.h"
#include "core/ops/squared_norm/squared_norm_unit.h"
#include "glog/logging.h"

namespace strake {
namespace {

bool Owned(const ParameterSegment& segment) { return segment.slice.owner; }

// Parameters begin at units, and so must parts. No cut is then within a unit.
static_assert(ParameterArena::kAlignmentElements == kSquaredNormUnit);

int64_t EndOfUnit(int64_t element) {
  return (element + kSquaredNormUnit - 1) / kSquaredNormUnit * kSquaredNormUnit;
}

// sum += the sum of squares.
absl::Status AddSquaredNorm(const Context& ctx, const Tensor& x, const Tensor& sum) {
  return x.num_elements() == 0 ? absl::OkStatus() : SquaredNormForward(ctx, x, sum);
}

// Adds the elements `range` of a parameter with owned and other columns. The owned ones are first
// copied between zeros, because a row of one segment is short. They keep their places, and with
// them their units.
absl::Status AddSquaredNormOfOwnedColumns(const Context& ctx, const ParameterRecord& record,
                                          const ArenaPart& grads, const ShardRange& range,
                                          const Tensor& sum) {
  const ActivationScope scope(ctx.arena());
  const ArenaPart owned = {range.begin, ctx.arena().Allocate(grads.values.dtype(), {range.size()})};
  STRAKE_RETURN_IF_ERROR(SetZero(ctx, owned.values));
  for (const SegmentBlock& block : SegmentBlocks(record, range, Owned)) {
    const ShardRange place = {block.begin, block.end()};
    STRAKE_RETURN_IF_ERROR(CopyRows(ctx, grads.Rows(place), block.stride, block.rows, block.columns,
                                    owned.Rows(place), block.stride));
  }
  return AddSquaredNorm(ctx, owned.values, sum);
}

// Parameters that are owned, and the gaps between them, are summed as one range.
absl::Status AddSquaredNormOfOwned(const Context& ctx, const ParameterArena& parameters,
                                   const ArenaPart& grads, const Tensor& sum) {
  int64_t run_begin = grads.begin;
  for (const ParameterRecord& record : parameters.records()) {
    const int64_t begin = std::max(record.offset, grads.begin);
    const int64_t end = std::min(record.end(), grads.end());
    const auto& segments = record.segments;
    if (begin >= end || std::all_of(segments.begin(), segments.end(), Owned)) continue;
    STRAKE_RETURN_IF_ERROR(AddSquaredNorm(ctx, grads.Rows({run_begin, begin}), sum));
    if (std::any_of(segments.begin(), segments.end(), Owned)) {
      STRAKE_RETURN_IF_ERROR(AddSquaredNormOfOwnedColumns(ctx, record, grads, {begin, end}, sum));
    }
    run_begin = std::min(EndOfUnit(end), grads.end());
  }
  return AddSquaredNorm(ctx, grads.Rows({run_begin, grads.end()}), sum);
}

}  // namespace

absl::Status ClipGradNorm(const Context& ctx, const ParameterArena& parameters,
                          const std::vector<ArenaPart>& grads, double clip_norm,
                          absl::Span<Communicator* const> groups, Tensor clip,
                          const Tensor& grad_scale) {
  for (const ArenaPart& part : grads) {
    const Tensor& values = part.values;
    CHECK((values.dtype() == DType::kF32 || values.dtype() == DType::kF64) && values.rank() == 1 &&
          part.begin >= 0 && part.begin % kSquaredNormUnit == 0 &&
          part.end() <= parameters.num_elements())
        << "[grad_clip] grads " << values.ToString() << " from " << part.begin << " of "
        << parameters.num_elements() << " elements";
  }
  const LayerScope layer(ctx, "clipping");
  const ActivationScope scope(ctx.arena());
  const Tensor sum = ctx.arena().Allocate(DType::kI64, {kExactSumLimbs});
  STRAKE_RETURN_IF_ERROR(SetZero(ctx, sum));
  for (const ArenaPart& part : grads) {
    STRAKE_RETURN_IF_ERROR(AddSquaredNormOfOwned(ctx, parameters, part, sum));
  }
  for (Communicator* group : groups) {
    if (group->size() == 1 || group->dry_run() != ctx.dry_run()) continue;
    STRAKE_RETURN_IF_ERROR(group->AllReduceSum(sum).Wait().status());
  }
  return ClipScale(ctx, sum, clip_norm, clip, grad_scale);
}

}  // namespace strake
