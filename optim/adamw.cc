#include "optim/adamw.h"

#include <algorithm>
#include <utility>

#include "core/base/dtype.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {

absl::StatusOr<AdamW> AdamW::Create(const ParameterArena& parameters, const ShardRange& range,
                                    const Tensor& grads) {
  CHECK(0 <= range.begin && range.begin <= range.end && range.end <= parameters.num_elements() &&
        grads.defined() && grads.shape() == Shape{range.size()} &&
        grads.dtype() == parameters.values().dtype())
      << "[adamw] values " << parameters.values().ToString() << ", range [" << range.begin << ", "
      << range.end << "), gradients " << grads.ToString();
  STRAKE_ASSIGN_OR_RETURN(HostMemory memory, HostMemory::Allocate(StateBytes(parameters, range)));
  return AdamW(parameters, range, grads, std::move(memory));
}

size_t AdamW::StateBytes(const ParameterArena& parameters, const ShardRange& range) {
  return 2 * range.size() * DTypeSize(parameters.grad_dtype());
}

AdamW::AdamW(const ParameterArena& parameters, const ShardRange& range, const Tensor& grads,
             HostMemory memory)
    : values_(parameters.values()),
      range_(range),
      runs_(RunsOf(parameters, range)),
      grads_(grads),
      memory_(std::move(memory)) {
  const Tensor both(memory_.data(), grads.dtype(), {2 * range.size()});
  exp_avg_ = both.Rows(0, range.size());
  exp_avg_sq_ = both.Rows(range.size(), 2 * range.size());
}

std::vector<AdamW::Run> AdamW::RunsOf(const ParameterArena& parameters, const ShardRange& range) {
  std::vector<Run> runs;
  for (const Parameter& parameter : parameters.parameters()) {
    const int64_t begin = std::max(parameter.offset, range.begin);
    const int64_t end = std::min(parameter.offset + parameter.num_elements(), range.end);
    if (begin >= end) continue;
    if (!runs.empty() && runs.back().weight_decay == parameter.weight_decay) {
      runs.back().range.end = end;
    } else {
      runs.push_back({{begin, end}, parameter.weight_decay});
    }
  }
  return runs;
}

absl::Status AdamW::Step(const Context& ctx, const AdamWStep& step) {
  CHECK(step.eps > 0 && step.step > 0) << "[adamw] eps " << step.eps << ", step " << step.step;
  for (const Run& run : runs_) {
    AdamWStep settings = step;
    if (!run.weight_decay) settings.weight_decay = 0;
    const auto part = [&](const Tensor& array) {
      return array.Rows(run.range.begin - range_.begin, run.range.end - range_.begin);
    };
    STRAKE_RETURN_IF_ERROR(AdamWUpdate(ctx, settings, part(grads_),
                                       values_.Rows(run.range.begin, run.range.end), part(exp_avg_),
                                       part(exp_avg_sq_)));
  }
  return absl::OkStatus();
}

}  // namespace strake
