// EnginePass: a part of an Engine's step, with all its inputs except the contents of memory. The
// engine gives a pass nothing else, so that equal passes enqueue the same work.
#ifndef STRAKE_TRAIN_ENGINE_ENGINE_PASS_H_
#define STRAKE_TRAIN_ENGINE_ENGINE_PASS_H_

#include <cstdint>
#include <variant>

namespace strake {

// The location of a micro-batch's inputs, on the engine's device: [num_tokens] i32 each.
struct TokenPlace {
  void* tokens = nullptr;
  void* targets = nullptr;
  int64_t num_tokens = 0;
  void* positions = nullptr;   // of the tokens in their documents
  bool has_documents = false;  // else no positions; in a dry run they have no memory

  bool operator==(const TokenPlace&) const = default;
};

// Forward and backward pass of a micro-batch.
struct TrainPass {
  TokenPlace batch;
  double scale = 0;     // of the sum of the losses
  bool first = false;   // of the step: gradients begin as zeros
  bool last = false;    // of the step: gradients are summed over data-parallel ranks
  bool gather = false;  // the weights of the last update arrive during the pass

  bool operator==(const TrainPass&) const = default;
};

// Forward pass of a micro-batch.
struct EvaluatePass {
  TokenPlace batch;

  bool operator==(const EvaluatePass&) const = default;
};

// Sums the gradients that tensor-parallel ranks share.
struct SumGradientsPass {
  bool operator==(const SumGradientsPass&) const = default;
};

// Clips the gradients and updates the weights.
struct UpdatePass {
  double clip_norm = 0;

  bool operator==(const UpdatePass&) const = default;
};

using EnginePass = std::variant<TrainPass, EvaluatePass, SumGradientsPass, UpdatePass>;

}  // namespace strake

#endif  // STRAKE_TRAIN_ENGINE_ENGINE_PASS_H_
