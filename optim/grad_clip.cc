#include "optim/grad_clip.h"

#include <algorithm>
#include <vector>

#include "core/base/status_macros.h"
#include "core/memory/segment_runs.h"
#include "core/ops/clip_scale/clip_scale.h"
#include "core/ops/copy/copy.h"
#include "core/ops/squared_norm/squared_norm.h"
#include "core/ops/sum/sum.h"
#include "glog/logging.h"

namespace strake {
namespace {

bool Owned(const ParameterSegment& segment) { return segment.slice.owner; }

// total += the sum of squares.
absl::Status AddSquaredNorm(const Context& ctx, const Tensor& x, const Tensor& total) {
  if (x.num_elements() == 0) return absl::OkStatus();
  const ActivationScope scope(ctx.arena());
  const Tensor sum = ctx.arena().Allocate(DType::kF64, {1});
  STRAKE_RETURN_IF_ERROR(SquaredNormForward(ctx, x, sum));
  return AddSum(ctx, sum, total);
}

// For a parameter with owned and other columns. The owned ones are gathered first: a row of one
// segment is short.
absl::Status AddSquaredNormOfOwnedColumns(const Context& ctx, const ParameterRecord& record,
                                          const ArenaPart& grads, const Tensor& total) {
  const std::vector<SegmentBlock> blocks = SegmentBlocks(record, grads.range(), Owned);
  int64_t num_owned = 0;
  for (const SegmentBlock& block : blocks) num_owned += block.num_elements();
  const ActivationScope scope(ctx.arena());
  const Tensor owned = ctx.arena().Allocate(grads.values.dtype(), {num_owned});
  int64_t at = 0;
  for (const SegmentBlock& block : blocks) {
    const int64_t end = at + block.num_elements();
    STRAKE_RETURN_IF_ERROR(CopyRows(ctx, grads.Rows({block.begin, block.end()}), block.stride,
                                    block.rows, block.columns, owned.Rows(at, end), block.columns));
    at = end;
  }
  return AddSquaredNorm(ctx, owned, total);
}

// Parameters that are owned, and the gaps between them, are summed as one range.
absl::Status AddSquaredNormOfOwned(const Context& ctx, const ParameterArena& parameters,
                                   const ArenaPart& grads, const Tensor& total) {
  int64_t run_begin = grads.begin;
  for (const ParameterRecord& record : parameters.records()) {
    const int64_t begin = std::max(record.offset, grads.begin);
    const int64_t end = std::min(record.end(), grads.end());
    const auto& segments = record.segments;
    if (begin >= end || std::all_of(segments.begin(), segments.end(), Owned)) continue;
    STRAKE_RETURN_IF_ERROR(AddSquaredNorm(ctx, grads.Rows({run_begin, begin}), total));
    if (std::any_of(segments.begin(), segments.end(), Owned)) {
      STRAKE_RETURN_IF_ERROR(AddSquaredNormOfOwnedColumns(ctx, record, grads, total));
    }
    run_begin = end;
  }
  return AddSquaredNorm(ctx, grads.Rows({run_begin, grads.end()}), total);
}

}  // namespace

absl::Status ClipGradNorm(const Context& ctx, const ParameterArena& parameters,
                          const std::vector<ArenaPart>& grads, double clip_norm,
                          absl::Span<Communicator* const> groups, Tensor clip,
                          const Tensor& grad_scale) {
  for (const ArenaPart& part : grads) {
    const Tensor& values = part.values;
    CHECK((values.dtype() == DType::kF32 || values.dtype() == DType::kF64) && values.rank() == 1 &&
          part.begin >= 0 && part.end() <= parameters.num_elements())
        << "[grad_clip] grads " << values.ToString() << " from " << part.begin << " of "
        << parameters.num_elements() << " elements";
  }
  const LayerScope layer(ctx, "clipping");
  const ActivationScope scope(ctx.arena());
  const Tensor sum = ctx.arena().Allocate(DType::kF64, {1});
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
