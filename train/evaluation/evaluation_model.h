// A small model in f64, for tests of evaluations, and the losses that they must give.
#ifndef STRAKE_TRAIN_EVALUATION_EVALUATION_MODEL_H_
#define STRAKE_TRAIN_EVALUATION_EVALUATION_MODEL_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/base/thread_team.h"
#include "core/memory/parameter_arena.h"
#include "core/testing/test_context.h"
#include "glog/logging.h"
#include "models/families/llama.h"
#include "models/initialize.h"
#include "models/model_parts.h"
#include "models/tiny_model.h"
#include "models/transformer.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake::testing {

inline constexpr int64_t kVocab = 30;  // no multiple of the ranks' number: padded
inline constexpr int64_t kMaxPositions = 16;

// Weights are those of a seed, or all zero: then every token is equally likely.
class EvaluationModel {
 public:
  explicit EvaluationModel(bool zero = false, DType dtype = DType::kF64,
                           const TensorParallel& tp = TensorParallel())
      : model_(Config(), kMaxPositions, &parameters_, tp), team_(1) {
    CHECK(parameters_.Allocate(dtype, /*with_gradients=*/false).ok());
    if (!zero) CHECK(InitializeParameters(/*seed=*/3, team_, &parameters_).ok());
  }
  static ModelConfig Config() {
    ModelConfig c = TinyConfig(&kLlamaFamily, /*tied=*/false);
    c.vocab_size = kVocab;
    c.max_positions = kMaxPositions;
    return c;
  }

  ParameterArena& parameters() { return parameters_; }
  operator ModelParts() const { return model_; }  // NOLINT(google-explicit-constructor)

  // -ln p of ids[first, ...), each from all before it: one sequence alone, from its logits. For a
  // model in f64.
  double LossOf(std::vector<int32_t> ids, int64_t first) const {
    const TestContext ctx(OpSet::kReference, 1);
    TransformerSaved saved;
    const int64_t n = ids.size() - 1;  // the last one is only a target
    const auto logits = model_.Logits(ctx, Tensor(ids.data(), DType::kI32, {n}), n, &saved);
    CHECK(logits.ok());
    double loss = 0;
    for (int64_t i = first; i <= n; ++i) {
      const double* row = logits->data<double>() + (i - 1) * kVocab;
      const double max = *std::max_element(row, row + kVocab);
      double sum = 0;
      for (int64_t v = 0; v < kVocab; ++v) sum += std::exp(row[v] - max);
      loss += max + std::log(sum) - row[ids[i]];
    }
    return loss;
  }

 private:
  ParameterArena parameters_;
  Transformer model_;
  ThreadTeam team_;
};

// Ids that repeat after a long time alone.
inline std::vector<int32_t> SomeIds(int64_t count, int64_t start = 0) {
  std::vector<int32_t> ids(count);
  for (int64_t i = 0; i < count; ++i) {
    ids[i] = static_cast<int32_t>(((start + i) * (start + i) * 7 + 3 * i + start) % kVocab);
  }
  return ids;
}

}  // namespace strake::testing

#endif  // STRAKE_TRAIN_EVALUATION_EVALUATION_MODEL_H_
