// The passes BackwardInput and BackwardWeight of models: their gradients against Backward()'s, bit
// for bit, in another order of micro-batches; and their memory against what is planned.
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
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

namespace strake {
namespace {

using testing::FillTokens;
using testing::MaxAbs;
using testing::SameBits;
using testing::TestTensor;

constexpr int64_t kApartLength = 4, kApartTokens = 2 * kApartLength;
constexpr int kApartBatches = 3;
constexpr LogitsChunk kApartChunks = {.max_bytes = 0, .min_rows = 3};

// How a model is trained.
struct ApartSetting {
  ModelConfig model;
  DType dtype = DType::kF32;
  OpSet op_set = OpSet::kAuto;
  ActivationRecompute recompute = ActivationRecompute::kNone;
  bool head_waits = false;
};

// An arena, whose memory is poisoned, and a context of it.
struct ApartRegion {
  ApartRegion(ThreadTeam* team, OpSet op_set, size_t bytes)
      : arena(ActivationArena::Create(bytes).value()), context(team, &arena, op_set) {
    arena.set_poison(true);
  }
  // Overwrites what nobody has allocated.
  void Clobber() {
    const ActivationScope scope(arena);
    arena.Allocate(DType::kF64, {int64_t(arena.num_bytes() - arena.used_bytes()) / 8});
  }
  ActivationArena arena;
  Context context;
};

struct ApartBytes {
  size_t activations = 0, kept = 0;
  bool operator==(const ApartBytes&) const = default;
};

// One rank's model. The forward pass and BackwardInput() of a micro-batch take its region, and what
// waits for BackwardWeight() is in another one.
class ApartRank {
 public:
  ApartRank(const ApartSetting& setting, const TensorParallel& tp)
      : setting_(setting),
        team_(1),
        lora_(setting.model.lora.enabled()),
        model_(setting.model, kApartLength, &weights_, tp, kApartChunks, setting.recompute,
               &adapters_) {}

  absl::Status SetWeights() {
    STRAKE_RETURN_IF_ERROR(weights_.Allocate(setting_.dtype, /*with_gradients=*/!lora_));
    STRAKE_RETURN_IF_ERROR(Initialize(&weights_));
    if (lora_) {
      STRAKE_RETURN_IF_ERROR(adapters_.Allocate(setting_.dtype, /*with_gradients=*/true));
      STRAKE_RETURN_IF_ERROR(Initialize(&adapters_));
    }
    for (ParameterRecord& record : trained().records()) {
      if (!record.parameter.grad_is_overwritten) continue;
      record.parameter.grad_is_cleared = true;
      testing::FillConstant(record.parameter.grad, 1e30);
    }
    for (int m = 0; m < kApartBatches; ++m) {
      tokens_.emplace_back(DType::kI32, Shape{kApartTokens});
      targets_.emplace_back(DType::kI32, Shape{kApartTokens});
      FillTokens(tokens_[m], 1 + m, setting_.model.vocab_size);
      FillTokens(targets_[m], 11 + m, setting_.model.vocab_size);
    }
    return absl::OkStatus();
  }

  ParameterArena& trained() { return lora_ ? adapters_ : weights_; }
  const std::vector<const Parameter*>& ready() const { return ready_; }

  // Dry runs of one micro-batch: Backward(), and the two passes.
  ApartBytes Plan(bool apart) {
    ActivationArena arena = ActivationArena::DryRun(), kept = ActivationArena::DryRun();
    const Context ctx(&team_, &arena, setting_.op_set), kept_ctx(&team_, &kept, setting_.op_set);
    const Tensor tokens(nullptr, DType::kI32, {kApartTokens});
    TransformerSaved saved;
    CHECK(Forward(ctx, apart ? &kept_ctx : nullptr, tokens, tokens, &saved).ok());
    if (apart) {
      CHECK(model_.BackwardInput(ctx, kept_ctx, &saved).ok());
      CHECK(model_.BackwardWeight(ctx, &saved).ok());
    } else {
      CHECK(model_.Backward(ctx, &saved).ok());
    }
    return {arena.peak_bytes(), kept.peak_bytes()};
  }

  absl::Status TrainTogether() {
    ApartRegion region(&team_, setting_.op_set, Plan(/*apart=*/false).activations);
    ListenTo(&region.context);
    for (int m = 0; m < kApartBatches; ++m) {
      const ActivationScope scope(region.arena);
      TransformerSaved saved;
      STRAKE_RETURN_IF_ERROR(
          Forward(region.context, /*kept=*/nullptr, tokens_[m], targets_[m], &saved));
      STRAKE_RETURN_IF_ERROR(model_.Backward(region.context, &saved));
    }
    return absl::OkStatus();
  }

  // F0 I0 F1 I1 W0 F2 I2 W1 W2: weight passes wait behind the passes of the next micro-batch.
  absl::Status TrainApart() {
    const ApartBytes plan = Plan(/*apart=*/true);
    for (int m = 0; m < kApartBatches; ++m) {
      regions_.emplace_back(&team_, setting_.op_set, plan.activations);
      kept_.emplace_back(&team_, setting_.op_set, plan.kept);
      ListenTo(&regions_[m].context);
      STRAKE_RETURN_IF_ERROR(InputPass(m));
      if (m > 0) STRAKE_RETURN_IF_ERROR(WeightPass(m - 1));
    }
    STRAKE_RETURN_IF_ERROR(WeightPass(kApartBatches - 1));
    for (int m = 0; m < kApartBatches; ++m) {
      EXPECT_EQ((ApartBytes{regions_[m].arena.peak_bytes(), kept_[m].arena.peak_bytes()}), plan);
    }
    return absl::OkStatus();
  }

 private:
  // Draws biases, norms' weights and adapters' B, too, instead of 0 and 1.
  absl::Status Initialize(ParameterArena* arena) {
    for (ParameterRecord& record : arena->records()) {
      if (record.init.stddev == 0 && record.init.bound == 0) record.init.stddev = 0.2;
    }
    return InitializeParameters(3, team_, arena);
  }

  void ListenTo(Context* ctx) {
    ctx->set_on_grad_ready([this](const Parameter& p) { ready_.push_back(&p); });
  }

  absl::Status Forward(const Context& ctx, const Context* kept, const Tensor& tokens,
                       const Tensor& targets, TransformerSaved* saved) {
    return model_
        .ForwardForTraining(ctx, tokens, targets, kApartLength, /*scale=*/0.5, saved,
                            /*documents=*/{}, setting_.head_waits ? kept : nullptr)
        .status();
  }

  absl::Status InputPass(int m) {
    ApartRegion& region = regions_[m];
    saved_.emplace_back();
    STRAKE_RETURN_IF_ERROR(
        Forward(region.context, &kept_[m].context, tokens_[m], targets_[m], &saved_[m]));
    const size_t used = region.arena.used_bytes();
    STRAKE_RETURN_IF_ERROR(model_.BackwardInput(region.context, kept_[m].context, &saved_[m]));
    EXPECT_EQ(region.arena.used_bytes(), used);
    region.Clobber();
    return absl::OkStatus();
  }

  absl::Status WeightPass(int m) {
    const size_t used = kept_[m].arena.used_bytes();
    STRAKE_RETURN_IF_ERROR(model_.BackwardWeight(regions_[m].context, &saved_[m]));
    EXPECT_EQ(kept_[m].arena.used_bytes(), used);
    return absl::OkStatus();
  }

  const ApartSetting setting_;
  ThreadTeam team_;
  const bool lora_;
  ParameterArena weights_, adapters_;
  Transformer model_;
  std::deque<TestTensor> tokens_, targets_;
  std::deque<ApartRegion> regions_, kept_;
  std::deque<TransformerSaved> saved_;
  std::vector<const Parameter*> ready_;
};

// The order in which gradients are announced for each micro-batch: the arena's, from its end.
std::vector<const Parameter*> LastToFirst(const ParameterArena& arena) {
  std::vector<const Parameter*> parameters;
  for (int m = 0; m < kApartBatches; ++m) {
    for (auto r = arena.records().rbegin(); r != arena.records().rend(); ++r) {
      parameters.push_back(&r->parameter);
    }
  }
  return parameters;
}

absl::Status CompareApartRank(const ApartSetting& setting, const TensorParallel& tp) {
  ApartRank together(setting, tp), apart(setting, tp);
  STRAKE_RETURN_IF_ERROR(together.SetWeights());
  STRAKE_RETURN_IF_ERROR(apart.SetWeights());
  STRAKE_RETURN_IF_ERROR(together.TrainTogether());
  STRAKE_RETURN_IF_ERROR(apart.TrainApart());
  EXPECT_GT(MaxAbs(together.trained().grads()), 1e-3);
  for (size_t i = 0; i < together.trained().records().size(); ++i) {
    const ParameterRecord& record = together.trained().records()[i];
    EXPECT_TRUE(SameBits(apart.trained().records()[i].parameter.grad, record.parameter.grad))
        << record.name();
  }
  EXPECT_EQ(together.ready(), LastToFirst(together.trained()));
  // The gradient of a head that does not wait is announced in the forward pass.
  if (setting.head_waits || setting.model.tie_word_embeddings || setting.model.lora.enabled()) {
    EXPECT_EQ(apart.ready(), LastToFirst(apart.trained()));
  } else {
    EXPECT_EQ(apart.ready().size(), together.ready().size());
  }
  EXPECT_EQ(together.Plan(/*apart=*/false).kept, 0u);
  return absl::OkStatus();
}

void CompareApart(ApartSetting setting, int num_ranks = 1, bool sequence_parallel = false) {
  // The table's gradient begins with the head's in every micro-batch.
  setting.head_waits |= setting.model.tie_word_embeddings;
  SCOPED_TRACE(::testing::Message()
               << setting.model.family->model_type << ", " << DTypeName(setting.dtype)
               << ", recomputation " << int(setting.recompute) << ", " << num_ranks << " ranks"
               << (sequence_parallel ? ", sequence-parallel" : ""));
  if (num_ranks == 1) {
    EXPECT_EQ(CompareApartRank(setting, TensorParallel()), absl::OkStatus());
    return;
  }
  const absl::Status status = RunOnThreads(
      {.dp = 1, .pp = 1, .cp = 1, .tp = num_ranks}, {.check = true}, [&](const Mesh& mesh) {
        return CompareApartRank(
            setting, TensorParallel(mesh.communicator(MeshAxis::kTp), sequence_parallel));
      });
  EXPECT_EQ(status, absl::OkStatus());
}

constexpr ActivationRecompute kApartRecomputes[] = {
    ActivationRecompute::kNone, ActivationRecompute::kSelective, ActivationRecompute::kFull};

// All families' features, each pair of features in one model, and adapters.
std::vector<ModelConfig> ApartModels() {
  std::vector<ModelConfig> models;
  for (const ModelFamily* family : {&kGpt2Family, &kLlamaFamily}) {
    for (const bool tied : {false, true}) models.push_back(testing::TinyConfig(family, tied));
  }
  for (const ModelConfig& config :
       testing::FeatureModels(testing::TinyConfig(&kLlamaFamily, /*tied=*/true))) {
    models.push_back(config);
  }
  const size_t num_whole = models.size();
  for (size_t i = 0; i < num_whole; i += 3) {
    models.push_back(models[i]);
    models.back().lora = {.rank = 2, .alpha = 3};
  }
  models.push_back(models[2]);
  models.back().lora = {.rank = 2, .alpha = 3, .targets = {"q_proj", "down_proj"}};
  return models;
}

TEST(PassesApartTest, BitsAndMemoryOfEveryFeature) {
  for (const ModelConfig& model : ApartModels()) {
    for (const ActivationRecompute recompute : kApartRecomputes) {
      CompareApart({.model = model, .recompute = recompute});
    }
  }
}

TEST(PassesApartTest, BitsOfEveryDType) {
  for (const ModelConfig& model : ApartModels()) {
    CompareApart({.model = model, .dtype = DType::kF64, .op_set = OpSet::kReference});
    CompareApart(
        {.model = model, .dtype = DType::kBf16, .recompute = ActivationRecompute::kSelective});
  }
}

TEST(PassesApartTest, BitsWhereTheHeadWaits) {
  for (const ModelFamily* family : {&kGpt2Family, &kLlamaFamily}) {
    CompareApart({.model = testing::TinyConfig(family, /*tied=*/false), .head_waits = true});
  }
}

TEST(PassesApartTest, BitsOnTensorParallelRanks) {
  for (const ModelConfig& model : ApartModels()) {
    for (const bool sequence_parallel : {false, true}) {
      for (const ActivationRecompute recompute : kApartRecomputes) {
        CompareApart({.model = model, .recompute = recompute}, /*num_ranks=*/2, sequence_parallel);
      }
    }
  }
}

TEST(PassesApartDeathTest, KeptTensorsNeedAnArenaOfTheirOwn) {
  const ApartSetting setting = {.model = testing::TinyConfig(&kGpt2Family, true)};
  ThreadTeam team(1);
  ParameterArena weights;
  const Transformer model(setting.model, kApartLength, &weights);
  weights.AllocateDryRun(DType::kF32);
  ActivationArena arena = ActivationArena::DryRun();
  const Context ctx(&team, &arena);
  const Tensor tokens(nullptr, DType::kI32, {kApartTokens});
  TransformerSaved saved;
  ASSERT_TRUE(model.ForwardForTraining(ctx, tokens, tokens, kApartLength, 1, &saved).ok());
  EXPECT_DEATH((void)model.BackwardWeight(ctx, &saved), "without BackwardInput");
  EXPECT_DEATH((void)model.BackwardInput(ctx, ctx, &saved), "nothing is kept");
}

}  // namespace
}  // namespace strake
