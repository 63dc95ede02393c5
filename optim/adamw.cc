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

int64_t NumElementsOf(const std::vector<ArenaPart>& parts) {
  int64_t n = 0;
  for (const ArenaPart& part : parts) n += part.values.num_elements();
  return n;
}

}  // namespace

absl::StatusOr<AdamW> AdamW::Create(const ParameterArena& parameters,
                                    const std::vector<ArenaPart>& grads) {
  const Tensor& values = parameters.values();
  for (const ArenaPart& part : grads) {
    CHECK(part.values.defined() && part.values.rank() == 1 && part.begin >= 0 &&
          part.end() <= parameters.num_elements() &&
          part.values.dtype() == parameters.grad_dtype() && part.values.device() == values.device())
        << "[adamw] values " << values.ToString() << ", gradients " << part.values.ToString()
        << " from " << part.begin;
  }
  const int64_t size = NumElementsOf(grads);
  STRAKE_ASSIGN_OR_RETURN(DeviceMemory memory,
                          DeviceMemory::Allocate(values.device(), StateBytes(parameters, size)));
  PinnedMemory pinned;
  if (values.device() == Device::kCuda) {
    STRAKE_ASSIGN_OR_RETURN(
        pinned, PinnedMemory::Allocate(kNumAdamWScalars * DTypeSize(parameters.grad_dtype())));
  }
  return AdamW(parameters, grads, std::move(memory), std::move(pinned));
}

AdamW AdamW::DryRun(const ParameterArena& parameters, const std::vector<ArenaPart>& grads) {
  AdamW optimizer(parameters, grads, DeviceMemory(), PinnedMemory());
  optimizer.has_step_ = optimizer.has_masters_ = true;
  return optimizer;
}

size_t AdamW::StateBytes(const ParameterArena& parameters, int64_t num_elements) {
  const int64_t num_arrays = HasMasters(parameters) ? 3 : 2;
  return (num_arrays * num_elements + kNumAdamWScalars) * DTypeSize(parameters.grad_dtype());
}

AdamW::AdamW(const ParameterArena& parameters, const std::vector<ArenaPart>& grads,
             DeviceMemory memory, PinnedMemory pinned)
    : values_(parameters.values()), memory_(std::move(memory)), pinned_(std::move(pinned)) {
  int64_t size = 0;
  for (const ArenaPart& part : grads) {
    AddRuns(parameters, part, size, &runs_);
    ranges_.push_back(part.range());
    size += part.values.num_elements();
  }
  const DType dtype = parameters.grad_dtype();
  const int64_t state_size = StateBytes(parameters, size) / DTypeSize(dtype);
  const Tensor all(memory_.data(), dtype, {state_size}, values_.device());
  const auto array = [&](int i) { return all.Rows(i * size, (i + 1) * size); };
  exp_avg_ = array(0);
  exp_avg_sq_ = array(1);
  if (HasMasters(parameters)) masters_ = array(2);
  scalars_ = all.Rows(state_size - kNumAdamWScalars, state_size);
  host_scalars_ =
      pinned_.data() == nullptr ? scalars_ : Tensor(pinned_.data(), dtype, {kNumAdamWScalars});
}

void AdamW::AddRuns(const ParameterArena& parameters, const ArenaPart& grads, int64_t state_begin,
                    std::vector<Run>* runs) {
  const auto add = [&](const ShardRange& run, bool weight_decay) {
    if (run.size() == 0) return;
    const int64_t to_state = state_begin - grads.begin;
    runs->push_back({.values = parameters.values().Rows(run.begin, run.end),
                     .grads = grads.Rows(run),
                     .state = {run.begin + to_state, run.end + to_state},
                     .weight_decay = weight_decay});
  };
  ShardRange run;
  bool weight_decay = false;
  for (const ParameterRecord& record : parameters.records()) {
    const int64_t begin = std::max(record.offset, grads.begin);
    const int64_t end = std::min(record.end(), grads.end());
    if (begin >= end) continue;
    if (run.size() > 0 && weight_decay == record.weight_decay) {
      run.end = end;
      continue;
    }
    add(run, weight_decay);
    run = {begin, end};
    weight_decay = record.weight_decay;
  }
  add(run, weight_decay);
}

absl::Status AdamW::SetMasters() {
  has_masters_ = true;
  if (!masters_.defined()) return absl::OkStatus();
  constexpr int64_t kElements = 1 << 22;  // at a time, to limit host memory
  const ArenaPart all{0, values_};
  for (const ArenaPart& part : Parts(masters_)) {
    for (int64_t begin = part.begin; begin < part.end(); begin += kElements) {
      const ShardRange range{begin, std::min(begin + kElements, part.end())};
      STRAKE_ASSIGN_OR_RETURN(const HostCopy values, HostCopy::Of(all.Rows(range)));
      STRAKE_ASSIGN_OR_RETURN(const HostCopy masters, HostCopy::Of(part.Rows(range)));
      const Bf16* from = values.tensor().data<Bf16>();
      std::transform(from, from + range.size(), masters.tensor().data<float>(),
                     [](Bf16 value) { return static_cast<float>(value); });
      STRAKE_RETURN_IF_ERROR(masters.WriteBack());
    }
  }
  return absl::OkStatus();
}

std::vector<ArenaPart> AdamW::UnroundedWeights() const {
  if (masters_.defined()) return Parts(masters_);
  std::vector<ArenaPart> parts;
  const ArenaPart all{0, values_};
  for (const ShardRange& range : ranges_) parts.push_back({range.begin, all.Rows(range)});
  return parts;
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
  const LayerScope layer(ctx, "weights");
  for (const Run& run : runs_) {
    const auto state = [&](const Tensor& array) {
      return array.Rows(run.state.begin, run.state.end);
    };
    const bool has_masters = masters_.defined();
    STRAKE_RETURN_IF_ERROR(AdamWUpdate(ctx,
                                       {.scalars = scalars_,
                                        .clip = clip,
                                        .grad = run.grads,
                                        .weight = has_masters ? state(masters_) : run.values,
                                        .exp_avg = state(exp_avg_),
                                        .exp_avg_sq = state(exp_avg_sq_),
                                        .rounded = has_masters ? run.values : Tensor()},
                                       run.weight_decay));
  }
  return absl::OkStatus();
}

}  // namespace strake
