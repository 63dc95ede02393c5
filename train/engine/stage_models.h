// The parts of a model that the stages of a pipeline hold (parallel/pipeline/schedule.h): how the
// options of an engine cut it, and the models of one stage.
#ifndef STRAKE_TRAIN_ENGINE_STAGE_MODELS_H_
#define STRAKE_TRAIN_ENGINE_STAGE_MODELS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "core/memory/parameter_arena.h"
#include "models/transformer.h"
#include "parallel/context/context_parallel.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/stage_layers.h"
#include "parallel/tensor/tensor_parallel.h"
#include "train/engine/engine_options.h"

namespace strake {

// InvalidArgument, with the numbers and what fits, where the schedule or the model's layers do not
// fit that many stages. One stage fits everything.
absl::Status CheckPipeline(const EngineOptions& options, int stages);

// The pipeline of an engine: one stage has one chunk. CHECKs CheckPipeline(), as do the others.
PipelineShape PipelineShapeOf(const EngineOptions& options, int stages);

// The numbers of layers of the model's parts, in its order: options.pipeline.layers, or spread so
// that the stage with the most FLOPs has as few as can be.
std::vector<int64_t> LayersOfParts(const EngineOptions& options, int stages);

// The options with LayersOfParts() in `pipeline.layers`, so that whatever else changes in them, and
// however often they are used, the cut is recorded once and stays. One stage leaves them as they
// are.
EngineOptions WithLayersOfParts(EngineOptions options, int stages);

// The FLOPs of a sequence in the layers, and before and behind them, from dry runs. Those of a
// micro-batch, which may be too large to record, are in the same proportion.
LayerCosts RecordLayerCosts(const EngineOptions& options);

// A stage's models, by chunk. Their parameters are added to `weights` as parts, or with LoRA those
// that are trained to `adapters`, which may be null without it. Both must outlive the models, and
// know which tensors of the model other stages have.
std::vector<std::unique_ptr<Transformer>> MakeStageModels(
    const EngineOptions& options, int stages, int stage, const TensorParallel& tp,
    ParameterArena* weights, ParameterArena* adapters,
    const ContextParallel& cp = ContextParallel());

}  // namespace strake

#endif  // STRAKE_TRAIN_ENGINE_STAGE_MODELS_H_
