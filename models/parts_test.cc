// Parts of models, one after the other, against the whole model: losses and gradients bit for bit.
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/memory/activation_arena.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/families/gpt2.h"
#include "models/families/llama.h"
#include "models/feature_models.h"
#include "models/initialize.h"
#include "models/tiny_model.h"
#include "models/transformer.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake::parts {
namespace {

using testing::FillTokens;
using testing::MaxAbs;
using testing::SameBits;
using testing::TestTensor;

constexpr int64_t kSeqLen = 4, kTokens = 2 * kSeqLen;
constexpr size_t kArenaBytes = size_t{4} << 20;

struct Setting {
  ModelConfig model;
  DType dtype = DType::kF32;
  OpSet op_set = OpSet::kAuto;
  ActivationRecompute recompute = ActivationRecompute::kNone;
  bool apart = false;
};

// One part, with memory of its own.
class Part {
 public:
  Part(const Setting& setting, const TensorParallel& tp, std::optional<LayerRange> layers)
      : apart_(setting.apart),
        team_(1),
        lora_(setting.model.lora.enabled()),
        model_(setting.model, kSeqLen, &weights_, tp, LogitsChunk(), setting.recompute, &adapters_,
               layers),
        arena_(ActivationArena::Create(kArenaBytes).value()),
        kept_arena_(ActivationArena::Create(kArenaBytes).value()),
        ctx_(&team_, &arena_, setting.op_set),
        kept_(&team_, &kept_arena_, setting.op_set) {}

  absl::Status SetWeights(DType dtype) {
    for (ParameterArena* arena : {&weights_, &adapters_}) {
      if (arena->records().empty()) continue;
      const bool trained = lora_ == (arena == &adapters_);
      STRAKE_RETURN_IF_ERROR(arena->Allocate(dtype, /*with_gradients=*/trained));
      // Draws biases, norms' weights and adapters' B, too, instead of 0 and 1.
      for (ParameterRecord& record : arena->records()) {
        if (record.init.stddev == 0 && record.init.bound == 0) record.init.stddev = 0.2;
      }
      STRAKE_RETURN_IF_ERROR(InitializeParameters(3, team_, arena));
    }
    return absl::OkStatus();
  }

  const Transformer& model() const { return model_; }
  const ParameterArena& trained() const { return lora_ ? adapters_ : weights_; }

  // Returns the loss, or what the next part begins with.
  absl::StatusOr<Tensor> Forward(const Tensor& input, const Tensor& tokens, const Tensor& targets) {
    saved_.input = input;
    return model_.ForwardForTraining(ctx_, tokens, model_.is_last() ? targets : Tensor(), kSeqLen,
                                     /*scale=*/0.5, &saved_);
  }

  absl::StatusOr<Tensor> Evaluate(const Tensor& input, const Tensor& tokens,
                                  const Tensor& targets) {
    TransformerSaved saved;
    saved.input = input;
    return model_.Forward(ctx_, tokens, model_.is_last() ? targets : Tensor(), kSeqLen, &saved);
  }

  // Returns the gradient of the input.
  absl::StatusOr<Tensor> Backward(const Tensor& output_grad) {
    saved_.output_grad = output_grad;
    if (!apart_) {
      STRAKE_RETURN_IF_ERROR(model_.Backward(ctx_, &saved_));
    } else {
      STRAKE_RETURN_IF_ERROR(model_.BackwardInput(ctx_, kept_, &saved_));
      STRAKE_RETURN_IF_ERROR(model_.BackwardWeight(ctx_, &saved_));
    }
    return saved_.dx;
  }

 private:
  const bool apart_;
  ThreadTeam team_;
  const bool lora_;
  ParameterArena weights_, adapters_;
  Transformer model_;
  ActivationArena arena_, kept_arena_;
  Context ctx_, kept_;
  TransformerSaved saved_;
};

// The parts of a rank, and the gradients of a micro-batch by parameter; of a copy that does not
// count, behind " copy".
struct Trained {
  std::deque<Part> parts;
  Tensor loss, evaluated;
  std::map<std::string, Tensor> grads;
};

absl::Status Train(const Setting& setting, const TensorParallel& tp,
                   const std::vector<LayerRange>& ranges, Trained* trained) {
  TestTensor tokens(DType::kI32, Shape{kTokens}), targets(DType::kI32, Shape{kTokens});
  FillTokens(tokens, 1, setting.model.vocab_size);
  FillTokens(targets, 11, setting.model.vocab_size);
  std::deque<Part>& parts = trained->parts;
  Tensor x, evaluated;
  for (const LayerRange& range : ranges) {
    Part& part = parts.emplace_back(setting, tp, range);
    STRAKE_RETURN_IF_ERROR(part.SetWeights(setting.dtype));
    STRAKE_ASSIGN_OR_RETURN(evaluated, part.Evaluate(evaluated, tokens, targets));
    STRAKE_ASSIGN_OR_RETURN(x, part.Forward(x, tokens, targets));
  }
  trained->loss = x;
  trained->evaluated = evaluated;
  Tensor dx;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    STRAKE_ASSIGN_OR_RETURN(dx, part->Backward(dx));
    for (const ParameterRecord& record : part->trained().records()) {
      const bool copy = !record.segments.front().slice.owner && part != parts.rend() - 1 &&
                        record.name() == parts.front().trained().records().front().name();
      trained->grads[record.name() + (copy ? " copy" : "")] = record.parameter.grad;
    }
  }
  return absl::OkStatus();
}

// The whole table's gradient is the sum of both uses', in another order.
void ExpectIsSum(const Tensor& whole, const Tensor& a, const Tensor& b) {
  ASSERT_EQ(whole.dtype(), DType::kF32);
  const float scale = static_cast<float>(MaxAbs(whole));
  for (int64_t i = 0; i < whole.num_elements(); ++i) {
    EXPECT_NEAR(whole.data<float>()[i], a.data<float>()[i] + b.data<float>()[i], 1e-6 * scale);
  }
}

absl::Status CompareRank(const Setting& setting, const TensorParallel& tp,
                         const std::vector<LayerRange>& ranges) {
  Trained whole, parts;
  STRAKE_RETURN_IF_ERROR(Train(setting, tp, {{0, setting.model.num_layers}}, &whole));
  STRAKE_RETURN_IF_ERROR(Train(setting, tp, ranges, &parts));
  EXPECT_TRUE(SameBits(parts.loss, whole.loss));
  EXPECT_TRUE(SameBits(parts.evaluated, whole.loss));
  const std::string table = whole.parts.front().trained().records().front().name();
  const bool two_tables = parts.grads.contains(table + " copy");
  EXPECT_EQ(two_tables, setting.model.tie_word_embeddings && !setting.model.lora.enabled());
  EXPECT_EQ(parts.grads.size(), whole.grads.size() + (two_tables ? 1 : 0));
  for (const auto& [name, grad] : whole.grads) {
    if (two_tables && name == table) {
      if (setting.dtype == DType::kF32)
        ExpectIsSum(grad, parts.grads[name], parts.grads[name + " copy"]);
      continue;
    }
    EXPECT_GT(MaxAbs(grad), 0) << name;
    EXPECT_TRUE(SameBits(parts.grads[name], grad)) << name;
  }
  return absl::OkStatus();
}

void Compare(Setting setting, int num_ranks = 1, bool sequence_parallel = false) {
  setting.model.num_layers = 3;
  SCOPED_TRACE(::testing::Message()
               << setting.model.family->model_type << ", " << DTypeName(setting.dtype)
               << ", recomputation " << int(setting.recompute) << ", apart " << setting.apart
               << ", " << num_ranks << " ranks" << (sequence_parallel ? " of sequences" : ""));
  for (const std::vector<LayerRange>& ranges :
       {std::vector<LayerRange>{{0, 1}, {1, 3}}, {{0, 1}, {1, 2}, {2, 3}}}) {
    if (num_ranks == 1) {
      EXPECT_EQ(CompareRank(setting, TensorParallel(), ranges), absl::OkStatus());
      continue;
    }
    EXPECT_EQ(RunOnThreads({.dp = 1, .pp = 1, .cp = 1, .tp = num_ranks}, {},
                           [&](const Mesh& mesh) {
                             return CompareRank(setting,
                                                TensorParallel(mesh.communicator(MeshAxis::kTp),
                                                               sequence_parallel),
                                                ranges);
                           }),
              absl::OkStatus());
  }
}

std::vector<ModelConfig> Models() {
  std::vector<ModelConfig> models;
  for (const ModelFamily* family : {&kGpt2Family, &kLlamaFamily}) {
    for (const bool tied : {false, true}) models.push_back(testing::TinyConfig(family, tied));
  }
  for (const ModelConfig& config :
       testing::FeatureModels(testing::TinyConfig(&kLlamaFamily, /*tied=*/false))) {
    models.push_back(config);
  }
  models.push_back(models[1]);
  models.back().lora = {.rank = 2, .alpha = 3};
  return models;
}

TEST(PartsTest, HaveTheBitsOfTheWholeModel) {
  for (const ModelConfig& model : Models()) {
    for (const bool apart : {false, true}) {
      Compare({.model = model, .apart = apart});
      Compare({.model = model, .recompute = ActivationRecompute::kFull, .apart = apart});
      Compare({.model = model, .dtype = DType::kBf16, .apart = apart});
    }
    Compare({.model = model, .dtype = DType::kF64, .op_set = OpSet::kReference});
  }
}

TEST(PartsTest, HaveTheBitsOfTheWholeModelOnTensorParallelRanks) {
  for (const ModelConfig& model : Models()) {
    for (const bool sequence_parallel : {false, true}) {
      Compare({.model = model, .apart = sequence_parallel}, /*num_ranks=*/2, sequence_parallel);
    }
  }
}

TEST(PartsDeathTest, APartNamesWhatItLacks) {
  const ModelConfig config = testing::TinyConfig(&kGpt2Family, true);
  ASSERT_EQ(config.num_layers, 2);
  Part first({.model = config}, TensorParallel(), LayerRange{0, 1});
  Part last({.model = config}, TensorParallel(), LayerRange{1, 2});
  EXPECT_DEATH((void)last.Forward(Tensor(), Tensor(nullptr, DType::kI32, {kTokens}), Tensor()),
               "without its input");
  EXPECT_DEATH((void)first.Backward(Tensor()), "without its output's gradient");
  EXPECT_DEATH((void)first.model().head(), "without a head");
  EXPECT_DEATH(Part({.model = config}, TensorParallel(), LayerRange{1, 3}),
               "layers \\[1, 3\\) of 2");
}

}  // namespace
}  // namespace strake::parts
