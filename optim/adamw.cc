#include "optim/adamw.h"

#include <utility>

#include "core/base/dtype.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {}  // namespace

absl::StatusOr<AdamW> AdamW::Create(const ParameterArena& parameters) {
  CHECK(parameters.grads().defined() && parameters.grads().dtype() == parameters.values().dtype())
      << "[adamw] values " << parameters.values().ToString() << ", gradients "
      << parameters.grads().ToString();
  STRAKE_ASSIGN_OR_RETURN(HostMemory memory, HostMemory::Allocate(StateBytes(parameters)));
  return AdamW(parameters, std::move(memory));
}

size_t AdamW::StateBytes(const ParameterArena& parameters) {
  return 2 * parameters.num_elements() * DTypeSize(parameters.grads().dtype());
}

AdamW::AdamW(const ParameterArena& parameters, HostMemory memory)
    : parameters_(&parameters), ranges_(RangesOf(parameters)), memory_(std::move(memory)) {
  const Tensor both(memory_.data(), parameters.grads().dtype(), {2, parameters.num_elements()});
  exp_avg_ = both.Rows(0, 1).Reshape({parameters.num_elements()});
  exp_avg_sq_ = both.Rows(1, 2).Reshape({parameters.num_elements()});
}

std::vector<AdamW::Range> AdamW::RangesOf(const ParameterArena& parameters) {
  std::vector<Range> ranges;
  for (const Parameter& parameter : parameters.parameters()) {
    const int64_t end = parameter.offset + parameter.num_elements();
    if (!ranges.empty() && ranges.back().weight_decay == parameter.weight_decay) {
      ranges.back().end = end;
    } else {
      ranges.push_back({parameter.offset, end, parameter.weight_decay});
    }
  }
  return ranges;
}

absl::Status AdamW::Step(const Context& ctx, const AdamWStep& step) {
  CHECK(step.eps > 0 && step.step > 0) << "[adamw] eps " << step.eps << ", step " << step.step;
  for (const Range& range : ranges_) {
    AdamWStep settings = step;
    if (!range.weight_decay) settings.weight_decay = 0;
    const auto part = [&](const Tensor& array) { return array.Rows(range.begin, range.end); };
    STRAKE_RETURN_IF_ERROR(AdamWUpdate(ctx, settings, part(parameters_->grads()),
                                       part(parameters_->values()), part(exp_avg_),
                                       part(exp_avg_sq_)));
  }
  return absl::OkStatus();
}

}  // namespace strake
