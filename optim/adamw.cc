#include "optim/adamw.h"

#include <algorithm>
#include <utility>

#include "core/base/dtype.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {

bool HasMasters(const ParameterArena& parameters) {
  return parameters.values().dtype() == DType::kBf16;
}

}  // namespace

absl::StatusOr<AdamW> AdamW::Create(const ParameterArena& parameters, const ShardRange& range,
                                    const Tensor& grads) {
  const Tensor& values = parameters.values();
  CHECK(0 <= range.begin && range.begin <= range.end && range.end <= parameters.num_elements() &&
        grads.defined() && grads.shape() == Shape{range.size()} &&
        grads.dtype() == parameters.grad_dtype() && grads.device() == values.device())
      << "[adamw] values " << values.ToString() << ", range [" << range.begin << ", " << range.end
      << "), gradients " << grads.ToString();
  STRAKE_ASSIGN_OR_RETURN(DeviceMemory memory,
                          DeviceMemory::Allocate(values.device(), StateBytes(parameters, range)));
  PinnedMemory pinned;
  if (values.device() == Device::kCuda) {
    STRAKE_ASSIGN_OR_RETURN(
        pinned, PinnedMemory::Allocate(kNumAdamWScalars * DTypeSize(parameters.grad_dtype())));
  }
  return AdamW(parameters, range, grads, std::move(memory), std::move(pinned));
}

AdamW AdamW::DryRun(const ParameterArena& parameters, const ShardRange& range,
                    const Tensor& grads) {
  AdamW optimizer(parameters, range, grads, DeviceMemory(), PinnedMemory());
  optimizer.has_step_ = optimizer.has_masters_ = true;
  return optimizer;
}

size_t AdamW::StateBytes(const ParameterArena& parameters, const ShardRange& range) {
  const int64_t num_arrays = HasMasters(parameters) ? 3 : 2;
  return (num_arrays * range.size() + kNumAdamWScalars) * DTypeSize(parameters.grad_dtype());
}

AdamW::AdamW(const ParameterArena& parameters, const ShardRange& range, const Tensor& grads,
             DeviceMemory memory, PinnedMemory pinned)
    : values_(parameters.values().Rows(range.begin, range.end)),
      range_(range),
      runs_(RunsOf(parameters, range)),
      grads_(grads),
      memory_(std::move(memory)),
      pinned_(std::move(pinned)) {
  const int64_t size = StateBytes(parameters, range) / DTypeSize(grads.dtype());
  const Tensor all(memory_.data(), grads.dtype(), {size}, grads.device());
  const auto array = [&](int i) { return all.Rows(i * range.size(), (i + 1) * range.size()); };
  exp_avg_ = array(0);
  exp_avg_sq_ = array(1);
  if (HasMasters(parameters)) masters_ = array(2);
  scalars_ = all.Rows(size - kNumAdamWScalars, size);
  host_scalars_ = pinned_.data() == nullptr
                      ? scalars_
                      : Tensor(pinned_.data(), grads.dtype(), {kNumAdamWScalars});
}

std::vector<AdamW::Run> AdamW::RunsOf(const ParameterArena& parameters, const ShardRange& range) {
  std::vector<Run> runs;
  for (const ParameterRecord& record : parameters.records()) {
    const int64_t begin = std::max(record.offset, range.begin) - range.begin;
    const int64_t end = std::min(record.end(), range.end) - range.begin;
    if (begin >= end) continue;
    if (!runs.empty() && runs.back().weight_decay == record.weight_decay) {
      runs.back().range.end = end;
    } else {
      runs.push_back({{begin, end}, record.weight_decay});
    }
  }
  return runs;
}

absl::Status AdamW::SetMasters() {
  has_masters_ = true;
  if (!masters_.defined()) return absl::OkStatus();
  constexpr int64_t kElements = 1 << 22;  // at a time, to limit host memory
  for (int64_t begin = 0; begin < range_.size(); begin += kElements) {
    const int64_t end = std::min(begin + kElements, range_.size());
    STRAKE_ASSIGN_OR_RETURN(const HostCopy values, HostCopy::Of(values_.Rows(begin, end)));
    STRAKE_ASSIGN_OR_RETURN(const HostCopy masters, HostCopy::Of(masters_.Rows(begin, end)));
    const Bf16* from = values.tensor().data<Bf16>();
    std::transform(from, from + (end - begin), masters.tensor().data<float>(),
                   [](Bf16 value) { return static_cast<float>(value); });
    STRAKE_RETURN_IF_ERROR(masters.WriteBack());
  }
  return absl::OkStatus();
}

void AdamW::SetStep(const AdamWStep& step) {
  CHECK(step.eps > 0 && step.step > 0) << "[adamw] eps " << step.eps << ", step " << step.step;
  SetAdamWScalars(step, host_scalars_);
  has_step_ = true;
}

absl::Status AdamW::Step(const Context& ctx, const Tensor& clip) {
  CHECK(has_step_ && (has_masters_ || !masters_.defined()))
      << "[adamw] Step() before " << (has_step_ ? "SetMasters()" : "SetStep()");
  if (pinned_.data() != nullptr) {
    STRAKE_RETURN_IF_ERROR(
        CopyToDevice(scalars_.raw(), host_scalars_.raw(), scalars_.num_bytes(), ctx.cuda_stream()));
  }
  const LayerScope layer(ctx.recorder(), "weights");
  for (const auto& [range, weight_decay] : runs_) {
    const auto part = [&run = range](const Tensor& array) {
      return array.defined() ? array.Rows(run.begin, run.end) : array;
    };
    const Tensor& weights = masters_.defined() ? masters_ : values_;
    const Tensor& rounded = masters_.defined() ? values_ : masters_;
    STRAKE_RETURN_IF_ERROR(AdamWUpdate(ctx,
                                       {.scalars = scalars_,
                                        .clip = clip,
                                        .grad = part(grads_),
                                        .weight = part(weights),
                                        .exp_avg = part(exp_avg_),
                                        .exp_avg_sq = part(exp_avg_sq_),
                                        .rounded = part(rounded)},
                                       weight_decay));
  }
  return absl::OkStatus();
}

}  // namespace strake
