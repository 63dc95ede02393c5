#include "tools/cli/step_config.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "models/families/families.h"
#include "tools/cli/machine.h"

namespace strake {

EngineOptions StepConfig::RankOptions(const ModelConfig& model_config) const {
  const Device kind = device == "cuda" ? Device::kCuda : Device::kCpu;
  return {.model = model_config,
          .seq_len = seq_len,
          .micro_batch = micro_batch,
          .dtype = dtype == "bf16" ? DType::kBf16 : DType::kF32,
          .device = kind,
          .sequence_parallel = layout.sequence_parallel,
          .context_comm = ContextCommOf(layout),
          .gradients = GradientOptionsOf(layout),
          .pipeline = PipelineOptionsOf(layout, num_micro_batches()).value(),
          .logits_chunk = LogitsChunk::For(kind),
          .activation_recompute = ActivationRecomputeOf(activation_recompute)};
}

void AddStepOptions(StepConfig* c, OptionSet* options) {
  const Range size = Range::Between(1, 1e9);
  options->Group("Model and batch");
  options->Add("model", &c->model,
               absl::StrCat("preset (", absl::StrJoin(ModelPresetNames(), ", "),
                            ") or path of a Hugging Face config.json"));
  options->Add("seq_len", &c->seq_len,
               "tokens per sequence; without it 256, or the model's positions if they are fewer",
               size);
  options->Add("micro_batch", &c->micro_batch, "sequences per data-parallel rank and pass", size);
  options->Add("global_batch", &c->global_batch,
               "sequences per step, a multiple of --micro_batch times --dp; 0: that product",
               Range::Between(0, 1e9));
  options->ShowDefault("global_batch", absl::StrCat(c->micro_batch));
  options->Add("dtype", &c->dtype, "dtype of weights and activations", {"fp32", "bf16"});
  options->Add("device", &c->device, "device; it decides how many logits are in memory at a time",
               {"cpu", "cuda"});
  AddActivationRecomputeOption(&c->activation_recompute, options);
  AddLayoutOptions(&c->layout, options);
  AddContextCommOption(&c->layout, options);
  AddPipelineOptions(&c->layout, options);
  AddGradReduceOption(&c->layout, options);
  options->Paths({"model"});
  options->Suggest("model", ModelPresetNames());
}

absl::Status ResolveStep(const OptionSet& given, const ModelConfig& model, StepConfig* c) {
  if (!given.IsSet("seq_len")) c->seq_len = std::min(c->seq_len, model.max_positions);
  STRAKE_RETURN_IF_ERROR(CheckSeqLenFlag(model, c->seq_len));
  STRAKE_RETURN_IF_ERROR(CheckLayout(c->layout, model, c->seq_len));
  if (c->global_batch == 0) c->global_batch = c->micro_batch * c->layout.dp;
  STRAKE_RETURN_IF_ERROR(CheckBatch(c->layout, c->micro_batch, c->global_batch));
  STRAKE_RETURN_IF_ERROR(CheckStages(c->layout, model, c->num_micro_batches()));
  if (c->rank < c->layout.num_ranks()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--rank=", c->rank, ": ", c->layout.SizesText(),
                                                 " are ", c->layout.num_ranks(), " ranks, from 0"));
}

}  // namespace strake
