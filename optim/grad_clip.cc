#include "optim/grad_clip.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/base/status_macros.h"
#include "core/memory/segment_runs.h"
#include "core/ops/squared_norm.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr double kNormEpsilon = 1e-6;

double ClipScale(double norm, double clip_norm) {
  if (clip_norm == 0) return 1;
  const double scale = clip_norm / (norm + kNormEpsilon);
  return scale > 1 ? 1 : scale;  // a NaN stays one
}

absl::StatusOr<double> SquaredNorm(const Context& ctx, const Tensor& x) {
  double sum = 0;
  STRAKE_RETURN_IF_ERROR(SquaredNormForward(ctx, x, Tensor(&sum, DType::kF64, {1})));
  return sum;
}

bool Owned(const ParameterSegment& segment) { return segment.slice.owner; }

// What a rank has of the index space.
struct RankGradients {
  ShardRange range;
  Tensor grads;

  Tensor Part(const ShardRange& part) const {
    return grads.Rows(part.begin - range.begin, part.end - range.begin);
  }
};

// Of a parameter that has owned and other columns. The former are gathered first: a row of one
// segment is short.
absl::StatusOr<double> SquaredNormOfOwnedColumns(const Context& ctx, const Parameter& parameter,
                                                 const RankGradients& rank) {
  int64_t num_owned = 0;
  ForEachSegmentRun(parameter, rank.range, Owned,
                    [&](const ShardRange& run) { num_owned += run.size(); });
  const ActivationScope scope(ctx.arena());
  const Tensor owned = ctx.arena().Allocate(rank.grads.dtype(), {num_owned});
  if (!ctx.dry_run()) {
    int64_t at = 0;
    ForEachSegmentRun(parameter, rank.range, Owned, [&](const ShardRange& run) {
      const Tensor from = rank.Part(run);
      std::memcpy(owned.Rows(at, at + run.size()).raw(), from.raw(), from.num_bytes());
      at += run.size();
    });
  }
  return SquaredNorm(ctx, owned);
}

// Parameters that are owned, and the gaps between them, are summed as one run.
absl::StatusOr<double> SquaredNormOfOwned(const Context& ctx, const ParameterArena& parameters,
                                          const RankGradients& rank) {
  double sum = 0;
  int64_t run_begin = rank.range.begin;
  for (const Parameter& parameter : parameters.parameters()) {
    const int64_t begin = std::max(parameter.offset, rank.range.begin);
    const int64_t end = std::min(parameter.offset + parameter.num_elements(), rank.range.end);
    const auto& segments = parameter.segments;
    if (begin >= end || std::all_of(segments.begin(), segments.end(), Owned)) continue;
    STRAKE_ASSIGN_OR_RETURN(const double run, SquaredNorm(ctx, rank.Part({run_begin, begin})));
    sum += run;
    if (std::any_of(segments.begin(), segments.end(), Owned)) {
      STRAKE_ASSIGN_OR_RETURN(const double columns,
                              SquaredNormOfOwnedColumns(ctx, parameter, rank));
      sum += columns;
    }
    run_begin = end;
  }
  STRAKE_ASSIGN_OR_RETURN(const double run,
                          SquaredNorm(ctx, rank.Part({run_begin, rank.range.end})));
  return sum + run;
}

}  // namespace

absl::StatusOr<GradClip> ClipGradNorm(const Context& ctx, const ParameterArena& parameters,
                                      const ShardRange& range, const Tensor& grads,
                                      double clip_norm, absl::Span<Communicator* const> groups) {
  CHECK_GE(clip_norm, 0) << "[grad_clip] clip_norm";
  CHECK((grads.dtype() == DType::kF32 || grads.dtype() == DType::kF64) &&
        grads.shape() == Shape{range.size()} && range.begin >= 0 &&
        range.end <= parameters.num_elements())
      << "[grad_clip] grads " << grads.ToString() << " for [" << range.begin << ", " << range.end
      << ") of " << parameters.num_elements() << " elements";
  STRAKE_ASSIGN_OR_RETURN(double sum, SquaredNormOfOwned(ctx, parameters, {range, grads}));
  for (Communicator* group : groups) {
    if (group->size() == 1 || ctx.dry_run()) continue;
    STRAKE_RETURN_IF_ERROR(group->AllReduceSum(Tensor(&sum, DType::kF64, {1})).Wait().status());
  }
  const double norm = std::sqrt(sum);
  return GradClip{.norm = norm, .scale = ClipScale(norm, clip_norm)};
}

}  // namespace strake
