#include "train/engine/stage_models.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/device/op_call.h"
#include "core/memory/activation_arena.h"
#include "core/ops/documents.h"
#include "glog/logging.h"

namespace strake {
namespace {

// Stages list their passes.
constexpr int64_t kMaxMicroBatches = 1 << 16;

PipelineShape ShapeOf(const EngineOptions& options, int stages) {
  const PipelineOptions& pipeline = options.pipeline;
  return {.kind = pipeline.kind,
          .stages = stages,
          .chunks = pipeline.chunks,
          .micro_batches = static_cast<int>(pipeline.micro_batches),
          .in_flight = pipeline.in_flight};
}

// The FLOPs that a dry run of some layers records.
double FlopsOf(const EngineOptions& options, const LayerRange& layers,
               absl::FunctionRef<absl::Status(const Context&, const Transformer&)> run) {
  ParameterArena weights, adapters;
  const Transformer model(options.model, options.seq_len, &weights, TensorParallel(),
                          options.logits_chunk, options.activation_recompute, &adapters, layers);
  weights.AllocateDryRun(options.dtype, options.device,
                         /*with_gradients=*/!options.model.lora.enabled());
  adapters.AllocateDryRun(options.dtype, options.device);
  ThreadTeam team(1);
  ActivationArena arena = ActivationArena::DryRun(options.device);
  Context ctx(&team, &arena, options.op_set);
  OpRecorder recorder;
  ctx.set_recorder(&recorder);
  const absl::Status ran = run(ctx, model);
  CHECK(ran.ok()) << ran;
  double flops = 0;
  for (const OpCall& call : recorder.calls()) flops += call.cost.flops;
  return flops;
}

std::set<std::string> NamesIn(const ParameterArena& arena) {
  std::set<std::string> names;
  for (const ParameterRecord& record : arena.records()) {
    for (const ParameterSegment& segment : record.segments) names.insert(segment.name);
  }
  return names;
}

void NameElsewhere(const ParameterArena& whole, ParameterArena* part) {
  std::set<std::string> names = NamesIn(whole);
  for (const std::string& name : NamesIn(*part)) names.erase(name);
  part->set_elsewhere(std::move(names));
}

}  // namespace

absl::Status CheckPipeline(const EngineOptions& options, int stages) {
  if (stages == 1) return absl::OkStatus();
  if (options.pipeline.micro_batches > kMaxMicroBatches) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a pipeline does at most ", kMaxMicroBatches, " micro-batches in a step, and not ",
        options.pipeline.micro_batches, ": take larger ones"));
  }
  STRAKE_RETURN_IF_ERROR(CheckPipelineShape(ShapeOf(options, stages)));
  const int chunks = options.pipeline.chunks;
  const int64_t num_layers = options.model.num_layers;
  if (!options.pipeline.layers.empty()) {
    return CheckStageLayers(options.pipeline.layers, num_layers, stages, chunks);
  }
  LayerCosts costs;
  costs.layers.assign(num_layers, 1);
  return SpreadLayers(costs, stages, chunks).status();
}

PipelineShape PipelineShapeOf(const EngineOptions& options, int stages) {
  const absl::Status fits = CheckPipeline(options, stages);
  CHECK(fits.ok()) << fits;
  return stages == 1 ? PipelineShape() : ShapeOf(options, stages);
}

LayerCosts RecordLayerCosts(const EngineOptions& options) {
  const int64_t num_layers = options.model.num_layers;
  const int64_t num_tokens = options.seq_len;
  const Tensor tokens(nullptr, DType::kI32, {num_tokens}, options.device);
  const Tensor x(nullptr, options.dtype, {num_tokens, options.model.hidden_size}, options.device);
  const std::vector<int64_t> lengths = {num_tokens};
  const Documents documents = options.documents ? Documents{tokens, lengths} : Documents();
  const auto train = [&](const Context& ctx, const Transformer& model) -> absl::Status {
    TransformerSaved saved;
    saved.input = saved.output_grad = x;
    STRAKE_RETURN_IF_ERROR(model
                               .ForwardForTraining(ctx, tokens, tokens, options.seq_len,
                                                   /*scale=*/1, &saved, documents)
                               .status());
    return model.Backward(ctx, &saved);
  };
  const auto train_head = [&](const Context& ctx, const Transformer& model) {
    HeadLossSaved saved;
    return model.head().ForwardBackward(ctx, x, tokens, /*scale=*/1, &saved).status();
  };
  LayerCosts costs;
  for (int64_t i = 0; i < num_layers; ++i) {
    costs.layers.push_back(FlopsOf(options, {i, i + 1}, train));
  }
  costs.last = FlopsOf(options, {num_layers - 1, num_layers}, train_head);
  costs.layers.back() -= costs.last;
  return costs;
}

std::vector<int64_t> LayersOfParts(const EngineOptions& options, int stages) {
  const PipelineShape shape = PipelineShapeOf(options, stages);
  if (stages == 1) return {options.model.num_layers};
  if (!options.pipeline.layers.empty()) return options.pipeline.layers;
  return SpreadLayers(RecordLayerCosts(options), shape.stages, shape.chunks).value();
}

EngineOptions WithLayersOfParts(EngineOptions options, int stages) {
  if (stages > 1) options.pipeline.layers = LayersOfParts(options, stages);
  return options;
}

std::vector<std::unique_ptr<Transformer>> MakeStageModels(const EngineOptions& options, int stages,
                                                          int stage, const TensorParallel& tp,
                                                          ParameterArena* weights,
                                                          ParameterArena* adapters,
                                                          const ContextParallel& cp) {
  const PipelineShape shape = PipelineShapeOf(options, stages);
  const std::vector<int64_t> counts = LayersOfParts(options, stages);
  std::vector<std::unique_ptr<Transformer>> models;
  for (int chunk = 0; chunk < shape.chunks; ++chunk) {
    if (chunk > 0) (options.model.lora.enabled() ? adapters : weights)->StartPart();
    models.push_back(
        std::make_unique<Transformer>(options.model, options.seq_len, weights, tp,
                                      options.logits_chunk, options.activation_recompute, adapters,
                                      LayersOfPart(counts, PipelinePart(shape, stage, chunk)), cp));
  }
  if (stages > 1) {
    ParameterArena whole, whole_adapters;
    const Transformer model(options.model, options.seq_len, &whole, TensorParallel(),
                            options.logits_chunk, options.activation_recompute, &whole_adapters);
    NameElsewhere(whole, weights);
    if (options.model.lora.enabled()) NameElsewhere(whole_adapters, adapters);
  }
  return models;
}

}  // namespace strake
