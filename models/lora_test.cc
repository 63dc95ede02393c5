// Models with LoRA adapters: what is added, against merged weights; what is trained; and what names
// the adapters have.
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/families.h"
#include "models/families/llama.h"
#include "models/feature_models.h"
#include "models/initialize.h"
#include "models/lora_modules.h"
#include "models/sliced_models.h"
#include "models/tiny_model.h"
#include "models/transformer.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using testing::FillTokens;
using ::testing::HasSubstr;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

constexpr int64_t kLength = 5;
constexpr int64_t kNumTokens = 2 * kLength;

// A model with adapters, or with the weights of one.
struct LoraModel {
  LoraModel(const ModelConfig& config, DType dtype,
            ActivationRecompute recompute = ActivationRecompute::kNone)
      : ctx(OpSet::kAuto, /*num_threads=*/2, size_t{1} << 24),
        tokens(DType::kI32, {kNumTokens}),
        targets(DType::kI32, {kNumTokens}),
        model(config, kLength, &base, TensorParallel(), {.max_bytes = 0, .min_rows = 6}, recompute,
              &adapters) {
    CHECK(base.Allocate(dtype, /*with_gradients=*/false).ok());
    CHECK(adapters.Allocate(dtype, /*with_gradients=*/true).ok());
    Initialize(&base);
    // B too, which is 0 in a new adapter.
    for (ParameterRecord& record : adapters.records()) {
      if (record.init.bound == 0) record.init.stddev = 0.3;
    }
    Initialize(&adapters);
    FillTokens(tokens, 1, config.vocab_size);
    FillTokens(targets, 2, config.vocab_size);
  }

  static void Initialize(ParameterArena* arena) {
    ThreadTeam team(1);
    CHECK(InitializeParameters(3, team, arena).ok());
  }

  // The logits of all tokens, copied.
  std::unique_ptr<TestTensor> Logits() {
    const ActivationScope scope(ctx.context().arena());
    TransformerSaved saved;
    const auto logits = model.Logits(ctx, tokens, kLength, &saved);
    CHECK(logits.ok()) << logits.status();
    auto copy = std::make_unique<TestTensor>(logits->dtype(), logits->shape());
    testing::CopyConvert(*logits, *copy);
    return copy;
  }

  // Returns the sum of the losses, and adds the gradients.
  double Train() {
    const ActivationScope scope(ctx.context().arena());
    TransformerSaved saved;
    const auto loss = model.ForwardForTraining(ctx, tokens, targets, kLength, 1, &saved);
    CHECK(loss.ok()) << loss.status();
    CHECK(model.Backward(ctx, &saved).ok());
    double sum = 0;
    for (int64_t i = 0; i < kNumTokens; ++i) sum += testing::GetElement(*loss, i).real();
    return sum;
  }

  TestContext ctx;
  TestTensor tokens, targets;
  ParameterArena base, adapters;
  Transformer model;
};

// Fused and separate tensors, interleaved heads, grouped key/value heads, gates and none.
std::vector<ModelConfig> LoraModels() {
  std::vector<ModelConfig> models = testing::SlicedModels(/*num_kv_heads=*/4);
  const auto features = testing::FeatureModels(testing::TinyConfig(&kLlamaFamily, /*tied=*/true));
  models.push_back(features.front());
  models.push_back(features.back());
  for (ModelConfig& config : models) {
    config.initializer_range = 0.3;
    config.lora = {.rank = 3, .alpha = 4};
  }
  // Parts of a fused weight, with a gap between them.
  ModelConfig gap = models[1];
  gap.lora.targets = {"q_proj", "v_proj", "up_proj"};
  models.push_back(gap);
  return models;
}

// By tensor, its elements in our orientation, [in, out].
using TensorValues = std::map<std::string, std::vector<double>>;

TensorValues ValuesOf(const ParameterArena& arena) {
  TensorValues tensors;
  testing::ForEachElement(arena, [&](const ParameterSegment& segment, int64_t full, int64_t i) {
    auto& tensor = tensors[segment.name];
    tensor.resize(segment.slice.full_rows * segment.slice.full_columns);
    tensor[full] = testing::GetElement(arena.values(), i).real();
  });
  return tensors;
}

// The definition: W += alpha / rank A B of every tensor that has an adapter. Returns their number.
int MergeAdapters(const LoraConfig& lora, const TensorValues& adapters, TensorValues* weights) {
  int num_merged = 0;
  for (auto& [name, weight] : *weights) {
    const std::string suffix = ".weight", module = name.substr(0, name.size() - suffix.size());
    const auto a = adapters.find("base_model.model." + module + ".lora_A.weight");
    if (a == adapters.end()) continue;
    const auto& b = adapters.at("base_model.model." + module + ".lora_B.weight");
    const int64_t out = static_cast<int64_t>(b.size()) / lora.rank;
    for (size_t i = 0; i < weight.size(); ++i) {
      double sum = 0;
      for (int64_t r = 0; r < lora.rank; ++r) {
        sum += a->second[i / out * lora.rank + r] * b[r * out + i % out];
      }
      weight[i] += lora.alpha / static_cast<double>(lora.rank) * sum;
    }
    ++num_merged;
  }
  return num_merged;
}

TEST(LoraTest, MergedWeightsGiveTheSameLogits) {
  for (const ModelConfig& config : LoraModels()) {
    ModelConfig plain = config;
    plain.lora = {};
    LoraModel adapted(config, DType::kF64), merged(plain, DType::kF64);
    EXPECT_TRUE(SameBits(adapted.base.values(), merged.base.values()));
    EXPECT_GT(RelativeError(*adapted.Logits(), *merged.Logits()), 0.01);
    TensorValues weights = ValuesOf(merged.base);
    const TensorValues adapters = ValuesOf(adapted.adapters);
    const int num_merged = MergeAdapters(config.lora, adapters, &weights);
    EXPECT_EQ(2 * num_merged, adapters.size());
    testing::ForEachElement(
        merged.base, [&](const ParameterSegment& segment, int64_t full, int64_t i) {
          testing::SetElement(merged.base.values(), i, weights.at(segment.name)[full]);
        });
    EXPECT_LT(RelativeError(*adapted.Logits(), *merged.Logits()), 1e-12)
        << config.family->model_type;
  }
}

TEST(LoraTest, ANewAdapterChangesNothing) {
  for (ModelConfig config : LoraModels()) {
    LoraModel adapted(config, DType::kF32);
    for (ParameterRecord& record : adapted.adapters.records()) record.init.stddev = 0;
    LoraModel::Initialize(&adapted.adapters);
    EXPECT_GT(MaxAbs(adapted.adapters.values()), 0.1);  // A is not 0
    config.lora = {};
    LoraModel plain(config, DType::kF32);
    // A GELU that is no part of the product may round otherwise.
    EXPECT_LT(RelativeError(*adapted.Logits(), *plain.Logits()), 1e-5);
  }
}

TEST(LoraTest, AdaptersAloneAreTrainedAndAnnouncedLastToFirst) {
  for (const ModelConfig& config : LoraModels()) {
    LoraModel m(config, DType::kF32);
    std::vector<const Parameter*> ready, expected;
    m.ctx.context().set_on_grad_ready([&](const Parameter& p) { ready.push_back(&p); });
    const TestTensor before(DType::kF32, m.base.values().shape());
    testing::CopyConvert(m.base.values(), before);
    m.Train();
    for (const ParameterRecord& record : m.adapters.records()) {
      expected.push_back(&record.parameter);
      EXPECT_GT(MaxAbs(record.parameter.grad), 0) << record.name();
      EXPECT_FALSE(record.parameter.frozen);
    }
    EXPECT_EQ(ready, std::vector<const Parameter*>(expected.rbegin(), expected.rend()));
    EXPECT_TRUE(SameBits(m.base.values(), before));
    EXPECT_FALSE(m.base.grads().defined());
    EXPECT_EQ(m.adapters.num_parameters(), NumAdapterParameters(config));
    EXPECT_EQ(m.base.num_parameters(), NumParameters(config));
  }
}

TEST(LoraTest, GradientsAddUpOverMicroBatches) {
  for (const ModelConfig& config : LoraModels()) {
    LoraModel once(config, DType::kF64), twice(config, DType::kF64);
    once.Train();
    twice.Train();
    twice.Train();
    const TestTensor sum(DType::kF64, once.adapters.grads().shape());
    for (int64_t i = 0; i < sum->num_elements(); ++i) {
      testing::SetElement(sum, i, 2.0 * testing::GetElement(once.adapters.grads(), i));
    }
    EXPECT_LT(RelativeError(twice.adapters.grads(), sum), 1e-14);
  }
}

// As in tests of whole models without adapters, whose ops are as many in a row; the adapter's are
// two more in each of 8 layers.
TEST(LoraTest, F32FollowsF64) {
  for (const int64_t rank : {1, 3, 16}) {
    for (ModelConfig config : LoraModels()) {
      config.lora.rank = rank;
      LoraModel f32(config, DType::kF32), f64(config, DType::kF64);
      const double bound = 80 * 4 * std::sqrt(48.0) * testing::UnitRoundoff(DType::kF32);
      const double loss = f64.Train();
      EXPECT_NEAR(f32.Train(), loss, bound * loss);
      for (size_t i = 0; i < f32.adapters.records().size(); ++i) {
        const ParameterRecord& record = f32.adapters.records()[i];
        EXPECT_LT(RelativeError(record.parameter.grad, f64.adapters.records()[i].parameter.grad),
                  bound)
            << record.name();
      }
    }
  }
}

// Arenas are poisoned: a tensor that a pass reads without recomputing it would be NaN.
TEST(LoraTest, RecomputationMovesNoBit) {
  for (const ModelConfig& config : LoraModels()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      LoraModel none(config, dtype);
      const double loss = none.Train();
      EXPECT_GT(MaxAbs(none.adapters.grads()), 0);
      for (const auto recompute : {ActivationRecompute::kSelective, ActivationRecompute::kFull}) {
        LoraModel m(config, dtype, recompute);
        EXPECT_EQ(m.Train(), loss);
        EXPECT_TRUE(SameBits(m.adapters.grads(), none.adapters.grads()));
      }
    }
  }
}

TEST(LoraTest, DecodeFollowsTheWholeSequence) {
  for (const ModelConfig& config : LoraModels()) {
    LoraModel m(config, DType::kF64);
    const auto logits = m.Logits();
    auto cache = KvCache::Create(m.model, kLength);
    ASSERT_TRUE(cache.ok()) << cache.status();
    for (int64_t begin = 0, end = 2; end <= kLength; begin = end++) {
      const auto next = m.model.Decode(m.ctx, m.tokens->Rows(begin, end), &*cache);
      ASSERT_TRUE(next.ok()) << next.status();
      const Tensor row = (*logits)->Rows(end - 1, end);
      EXPECT_LT(RelativeError(*next, Tensor(row.raw(), row.dtype(), next->shape())), 1e-13);
    }
  }
}

// PEFT's names and shapes: A [rank, in], B [out, rank], also where the weight is not transposed.
TEST(LoraTest, SegmentsAreTensorsOfPeft) {
  ModelConfig config = testing::SlicedModels(4)[0];
  config.lora = {.rank = 3, .alpha = 4, .targets = {"attn.c_attn"}};
  ParameterArena base, adapters;
  const Transformer model(config, kLength, &base, TensorParallel(), LogitsChunk(),
                          ActivationRecompute::kNone, &adapters);
  ASSERT_EQ(adapters.records().size(), 4);
  const ParameterRecord &a = adapters.records()[0], &b = adapters.records()[1];
  EXPECT_EQ(a.name(), "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight");
  EXPECT_EQ(b.name(), "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight");
  EXPECT_EQ(a.shape(), (Shape{24, 3}));
  EXPECT_EQ(b.shape(), (Shape{3, 72}));
  EXPECT_EQ(a.init.bound, 1 / std::sqrt(24.0));
  for (const ParameterRecord& record : {a, b}) {
    EXPECT_TRUE(record.segments.front().transposed && record.weight_decay);
    EXPECT_EQ(record.init.stddev, 0);
  }
  EXPECT_EQ(b.init.bound, 0);
}

TEST(LoraTest, ModulesAreThoseOfTheFamily) {
  const std::map<std::string, std::vector<std::string>> expected = {
      {"gpt2-124m", {"c_attn", "c_proj", "c_fc"}},
      {"pythia-70m", {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}},
      {"phi-3-mini", {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}},
      {"smollm2-135m",
       {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}}};
  for (const auto& [name, modules] : expected) {
    const auto config = ModelPreset(name);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(AdapterModules(*config), modules) << name;
  }
  ModelConfig smollm = *ModelPreset("smollm2-135m");
  smollm.lora = {.rank = 16, .alpha = 32};
  // Of each of 30 layers: q 576 + 576, k and v 576 + 192, o 576 + 576, three times 576 + 1536.
  EXPECT_EQ(NumAdapterParameters(smollm), 30 * 16 * (2 * 1152 + 2 * 768 + 3 * 2112));
}

TEST(LoraTest, CheckNamesWhatIsWrong) {
  ModelConfig config = *ModelPreset("smollm2-135m");
  EXPECT_TRUE(CheckLora(config).ok());
  config.lora = {.rank = 8, .alpha = 16, .targets = {"q_proj", "mlp.up_proj"}};
  EXPECT_TRUE(CheckLora(config).ok());
  const auto message = [&](const LoraConfig& lora) {
    config.lora = lora;
    const absl::Status status = CheckLora(config);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(message({.rank = 8, .alpha = 16, .targets = {"q_proj", "c_attn"}}),
              HasSubstr("no linear layer \"c_attn\" for an adapter; it has q_proj, k_proj, v_proj, "
                        "o_proj, gate_proj, up_proj, down_proj"));
  EXPECT_THAT(message({.rank = 8, .alpha = 16, .targets = {"proj"}}), HasSubstr("\"proj\""));
  EXPECT_THAT(message({.rank = 8, .alpha = 16, .targets = {""}}), HasSubstr("\"\""));
  EXPECT_THAT(message({.rank = 8, .alpha = 16, .targets = {"lm_head"}}), HasSubstr("lm_head"));
  EXPECT_THAT(message({.rank = -1, .alpha = 16}), HasSubstr("rank -1"));
  EXPECT_THAT(message({.rank = 8}), HasSubstr("alpha 0"));
  EXPECT_THAT(message({.rank = 8, .alpha = NAN}), HasSubstr("alpha nan"));
}

}  // namespace
}  // namespace strake
