// EngineOptions: the options that decide what an engine computes and allocates.
#ifndef STRAKE_TRAIN_ENGINE_ENGINE_OPTIONS_H_
#define STRAKE_TRAIN_ENGINE_ENGINE_OPTIONS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/base/dtype.h"
#include "core/cuda/product_tuning.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"
#include "models/activation_recompute.h"
#include "models/head_loss.h"
#include "models/model_config.h"
#include "parallel/context/context_parallel.h"
#include "parallel/data/gradient_reducer.h"
#include "parallel/pipeline/schedule.h"

namespace strake {

// How the stages of a pipeline, the mesh's pp ranks, share the work of a step.
struct PipelineOptions {
  PipelineKind kind = PipelineKind::k1f1b;
  int chunks = 1;     // per stage
  int in_flight = 0;  // PipelineShape::in_flight
  // The numbers of layers of the model's parts (CheckStageLayers()); empty: spread by FLOPs.
  std::vector<int64_t> layers = {};
  // The micro-batches of a step and data-parallel rank, for which memory is planned.
  int64_t micro_batches = 1;
};

struct EngineOptions {
  ModelConfig model = {};
  int64_t seq_len = 0;
  int64_t micro_batch = 0;  // maximum number of sequences per pass and data-parallel rank
  int num_threads = 1;      // per rank
  OpSet op_set = OpSet::kAuto;
  DType dtype = DType::kF32;  // f64 only with the reference ops, bf16 only without them
  Device device = Device::kCpu;
  int cuda_device = 0;
  // Tables of GPUs, which outlive engines. Without that of the GPU, each product takes the first
  // algorithm of the library.
  absl::Span<const ProductTuning> product_tunings = {};
  bool cuda_graph = false;  // record the step, where all groups can be captured
  // On GPUs, false lets attention in bf16 take a backward pass of cuDNN that is faster and needs
  // less memory. It costs bits: the same run gives others each time, also after a resume. All else
  // stays deterministic.
  bool deterministic = true;
  bool sequence_parallel = false;
  ContextComm context_comm = ContextComm::kRing;  // of several cp ranks
  GradientReducerOptions gradients = {};          // ZeRO, and how gradients are reduced
  // Sequences of a step on this rank, whose losses Engine::SequenceLosses() then has; 0: it has
  // none.
  int64_t step_sequences = 0;
  bool documents = false;         // micro-batches come with documents (core/ops/documents.h)
  PipelineOptions pipeline = {};  // of several pp ranks; one rank ignores it
  LogitsChunk logits_chunk = {};  // tests lower it
  ActivationRecompute activation_recompute = ActivationRecompute::kNone;
};

// InvalidArgument, with the numbers and the nearest lengths that fit, where that many
// context-parallel ranks do not divide sequences of seq_len tokens (SequenceChunks).
absl::Status CheckSequence(int64_t seq_len, int num_ranks);

}  // namespace strake

#endif  // STRAKE_TRAIN_ENGINE_ENGINE_OPTIONS_H_
