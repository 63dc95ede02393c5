// Whole models on a GPU, against the CPU's in f64 with the same weights.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "core/testing/cuda_test_context.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/activation_recompute.h"
#include "models/decoder.h"
#include "models/families/gpt2.h"
#include "models/families/llama.h"
#include "models/feature_models.h"
#include "models/generator.h"
#include "models/initialize.h"
#include "models/non_finite.h"
#include "models/tiny_model.h"
#include "models/transformer.h"

namespace strake {
namespace {

using testing::CopyConvert;
using testing::CudaTestContext;
using testing::CudaTestTensor;
using testing::FillTokens;
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::TinyConfig;

constexpr int64_t kSeqLen = 5;
constexpr int64_t kTokens = 2 * kSeqLen;

struct TestModel {
  std::string name;
  ModelConfig config;
  int num_ops;  // in a row
};

// GPT-2 with tied embeddings; Llama with grouped heads, RoPE, and a separate head; some of the
// models of tests on the CPU that have all features together, twice the ops included.
std::vector<TestModel> TestModels() {
  const ModelConfig llama = TinyConfig(&kLlamaFamily, /*tied=*/false);
  std::vector<TestModel> models = {{"Gpt2", TinyConfig(&kGpt2Family, /*tied=*/true), 20},
                                   {"Llama", llama, 20}};
  const std::vector<ModelConfig> features = testing::FeatureModels(llama);
  for (size_t i = 0; i < features.size(); i += features.size() / 4) {
    models.push_back({"Features" + std::to_string(i), features[i], 40});
  }
  // Adapters, whose products are twice the ops.
  for (const int64_t rank : {1, 16}) {
    TestModel adapted = models[rank % 2];
    adapted.config.lora = {.rank = rank, .alpha = 2};
    adapted.num_ops = 40;
    adapted.name += "Rank" + std::to_string(rank);
    models.push_back(adapted);
  }
  return models;
}

struct Batch {
  explicit Batch(int64_t vocab_size)
      : tokens(DType::kI32, {kTokens}), targets(DType::kI32, {kTokens}) {
    FillTokens(tokens, 1, vocab_size);
    FillTokens(targets, 2, vocab_size);
  }
  TestTensor tokens, targets;
};

HostCopy ToHost(const Tensor& x) {
  auto copy = HostCopy::Of(x);
  CHECK(copy.ok()) << copy.status();
  return std::move(copy).value();
}

double Sum(const Tensor& x) {
  double sum = 0;
  for (int64_t i = 0; i < x.num_elements(); ++i) sum += GetElement(x, i).real();
  return sum;
}

struct CudaModel {
  CudaModel(const ModelConfig& config, DType dtype, const LogitsChunk& chunk = LogitsChunk())
      : batch(config.vocab_size),
        tokens(batch.tokens),
        targets(batch.targets),
        model(config, config.max_positions, &arena, TensorParallel(), chunk,
              ActivationRecompute::kNone, &adapters),
        trained(config.lora.enabled() ? adapters : arena) {
    // An adapter's B, too, which is 0 at first.
    for (ParameterRecord& record : adapters.records()) record.init.stddev = 0.3;
    ThreadTeam team(1);
    for (ParameterArena* each : {&arena, &adapters}) {
      if (each->num_elements() == 0) continue;
      CHECK(each->Allocate(dtype, /*with_gradients=*/each == &trained, Device::kCuda).ok());
      CHECK(InitializeParameters(3, team, each).ok());
    }
    CHECK(model.PlaceTables().ok());
  }

  // Returns the sum of the losses; adds the gradients.
  double Run() {
    const ActivationScope scope(ctx.context().arena());
    TransformerSaved saved;
    const auto loss = model.ForwardForTraining(ctx, tokens, targets, kSeqLen, 1, &saved);
    CHECK(loss.ok()) << loss.status();
    EXPECT_EQ(loss->dtype(), DType::kF32);
    const absl::Status status = model.Backward(ctx, &saved);
    CHECK(status.ok()) << status;
    return Sum(ToHost(*loss));
  }

  // Two micro-batches with the passes apart: both input passes, then both weight passes.
  void RunApart() {
    ThreadTeam team(1);
    auto kept_arena = ActivationArena::Create(size_t{1} << 22, Device::kCuda);
    CHECK(kept_arena.ok()) << kept_arena.status();
    Context kept(&team, &*kept_arena);
    kept.set_cuda(&ctx.context().cuda());
    const ActivationScope scope(ctx.context().arena());
    TransformerSaved saved[2];
    for (TransformerSaved& each : saved) {
      CHECK(model.ForwardForTraining(ctx, tokens, targets, kSeqLen, 1, &each, {}, &kept).ok());
      CHECK(model.BackwardInput(ctx, kept, &each).ok());
    }
    for (TransformerSaved& each : saved) CHECK(model.BackwardWeight(ctx, &each).ok());
    (void)ToHost(trained.grads());  // waits before the arena goes
  }

  CudaTestContext ctx;
  Batch batch;
  CudaTestTensor tokens, targets;
  ParameterArena arena, adapters;
  Transformer model;
  ParameterArena& trained;
};

// On the CPU in f64, with another model's weights.
struct ExactModel {
  ExactModel(const ModelConfig& config, const CudaModel& other)
      : batch(config.vocab_size),
        model(config, config.max_positions, &arena, TensorParallel(), LogitsChunk(),
              ActivationRecompute::kNone, &adapters),
        trained(config.lora.enabled() ? adapters : arena) {
    CHECK(arena.Allocate(DType::kF64, /*with_gradients=*/&arena == &trained).ok());
    CopyConvert(ToHost(other.arena.values()), arena.values());
    if (!config.lora.enabled()) return;
    CHECK(adapters.Allocate(DType::kF64, /*with_gradients=*/true).ok());
    CopyConvert(ToHost(other.adapters.values()), adapters.values());
  }

  double Run() {
    const ActivationScope scope(ctx.context().arena());
    TransformerSaved saved;
    const auto loss =
        model.ForwardForTraining(ctx, batch.tokens, batch.targets, kSeqLen, 1, &saved);
    CHECK(loss.ok()) << loss.status();
    CHECK(model.Backward(ctx, &saved).ok());
    return Sum(*loss);
  }

  TestContext ctx;
  Batch batch;
  ParameterArena arena, adapters;
  Transformer model;
  ParameterArena& trained;
};

class TransformerCudaTest : public ::testing::TestWithParam<std::tuple<TestModel, DType>> {
 protected:
  const ModelConfig& Config() const { return std::get<0>(GetParam()).config; }
  DType dtype() const { return std::get<1>(GetParam()); }

  // As in transformer_test.cc: about 20 ops in a row, each within a few roundings of sums of up to
  // 12 terms. In bf16 sums are in f32, and the tensors between the ops are rounded: 20 on the way
  // to the loss, and in a gradient as many on the way back. The roundings add up as independent
  // numbers do; the largest of an array of them is about three times their root mean square.
  double Bound() const {
    const int num_ops = std::get<0>(GetParam()).num_ops;
    if (dtype() == DType::kF32)
      return num_ops * 4 * std::sqrt(12.0) * testing::UnitRoundoff(DType::kF32);
    return 3 * std::sqrt(2.0 * num_ops) * testing::UnitRoundoff(DType::kBf16);
  }
};

// Chunks of logits: one, and the last ragged.
constexpr LogitsChunk kChunks[] = {LogitsChunk(), {.max_bytes = 0, .min_rows = 4}};

TEST_P(TransformerCudaTest, LossAndGradientsFollowF64) {
  for (const LogitsChunk& chunk : kChunks) {
    CudaModel m(Config(), dtype(), chunk);
    ExactModel exact(Config(), m);
    const double expected = exact.Run();
    EXPECT_NEAR(m.Run(), expected, Bound() * expected);
    for (size_t i = 0; i < m.trained.records().size(); ++i) {
      const ParameterRecord& record = m.trained.records()[i];
      const Tensor& truth = exact.trained.records()[i].parameter.grad;
      EXPECT_GT(MaxAbs(truth), 1e-4) << record.name();
      EXPECT_LT(RelativeError(ToHost(record.parameter.grad), truth), Bound()) << record.name();
    }
  }
}

TEST_P(TransformerCudaTest, TheLossAloneIsThatOfTraining) {
  CudaModel m(Config(), dtype(), kChunks[1]);
  TransformerSaved saved;
  const auto loss = m.model.Forward(m.ctx, m.tokens, m.targets, kSeqLen, &saved);
  ASSERT_TRUE(loss.ok()) << loss.status();
  EXPECT_EQ(Sum(ToHost(*loss)), m.Run());
}

// Bytes of activations that a dry run plans.
size_t PlannedBytes(const ModelConfig& config, DType dtype, const LogitsChunk& chunk) {
  ParameterArena parameters;
  ParameterArena adapters;
  const Transformer model(config, config.max_positions, &parameters, TensorParallel(), chunk,
                          ActivationRecompute::kNone, &adapters);
  parameters.AllocateDryRun(dtype, Device::kCuda);
  adapters.AllocateDryRun(dtype, Device::kCuda);
  ActivationArena plan = ActivationArena::DryRun(Device::kCuda);
  ThreadTeam team(1);
  const Context ctx(&team, &plan);
  const Tensor tokens(nullptr, DType::kI32, {kTokens}, Device::kCuda);
  TransformerSaved saved;
  CHECK(model.ForwardForTraining(ctx, tokens, tokens, kSeqLen, 1, &saved).ok());
  CHECK(model.Backward(ctx, &saved).ok());
  return plan.peak_bytes();
}

TEST_P(TransformerCudaTest, TheSameBitsTwiceInThePlannedMemory) {
  for (const LogitsChunk& chunk : kChunks) {
    CudaModel first(Config(), dtype(), chunk), second(Config(), dtype(), chunk);
    EXPECT_EQ(first.Run(), second.Run());
    EXPECT_TRUE(SameBits(ToHost(first.trained.grads()), ToHost(second.trained.grads())));
    EXPECT_EQ(first.ctx.context().arena().peak_bytes(), PlannedBytes(Config(), dtype(), chunk));
  }
}

TEST_P(TransformerCudaTest, PassesApartHaveTheSameBits) {
  for (const LogitsChunk& chunk : kChunks) {
    CudaModel together(Config(), dtype(), chunk), apart(Config(), dtype(), chunk);
    together.Run();
    together.Run();
    apart.RunApart();
    for (size_t i = 0; i < together.trained.records().size(); ++i) {
      const ParameterRecord& record = together.trained.records()[i];
      EXPECT_TRUE(SameBits(ToHost(apart.trained.records()[i].parameter.grad),
                           ToHost(record.parameter.grad)))
          << record.name();
    }
  }
}

TEST_P(TransformerCudaTest, DecodeFollowsTheWholeSequence) {
  CudaModel m(Config(), dtype());
  const Tensor tokens = m.tokens;
  TransformerSaved saved;
  const auto logits = m.model.Logits(m.ctx, tokens.Rows(0, kSeqLen), kSeqLen, &saved);
  ASSERT_TRUE(logits.ok()) << logits.status();
  const HostCopy expected = ToHost(*logits);
  auto cache = KvCache::Create(m.model, kSeqLen);
  ASSERT_TRUE(cache.ok()) << cache.status();
  // A prompt of two tokens at once, then one by one.
  for (int64_t begin = 0, end = 2; end <= kSeqLen; begin = end++) {
    const auto next = m.model.Decode(m.ctx, tokens.Rows(begin, end), &*cache);
    ASSERT_TRUE(next.ok()) << next.status();
    EXPECT_LT(RelativeError(ToHost(*next), expected.tensor().Rows(end - 1, end)), Bound());
  }
}

// The decoder's tokens one by one: enqueued, recorded, and launched twice as a graph.
TEST_P(TransformerCudaTest, TheDecodersGraphHasTheBitsOfTheModelsDecode) {
  CudaModel m(Config(), dtype());
  const std::vector<int32_t> tokens = {2, 5, 1, 0, 3};
  auto decoder = Decoder::Create(m.ctx, m.model, kSeqLen);
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  for (int round = 0; round < 2; ++round, decoder->Clear()) {
    auto cache = KvCache::Create(m.model, kSeqLen);
    ASSERT_TRUE(cache.ok()) << cache.status();
    for (size_t i = 0; i < tokens.size(); ++i) {
      SCOPED_TRACE(i);
      const auto logits = decoder->Append({&tokens[i], 1});
      ASSERT_TRUE(logits.ok()) << logits.status();
      const ActivationScope scope(m.ctx.context().arena());
      const Tensor input = m.ctx.context().arena().Allocate(DType::kI32, {1});
      ASSERT_TRUE(
          CopyBlocking(Tensor(const_cast<int32_t*>(&tokens[i]), DType::kI32, {1}), input).ok());
      const auto expected = m.model.Decode(m.ctx, input, &*cache);
      ASSERT_TRUE(expected.ok()) << expected.status();
      const HostCopy host = ToHost(*expected);
      ASSERT_EQ(logits->size(), Config().vocab_size);
      for (size_t v = 0; v < logits->size(); ++v) {
        EXPECT_EQ((*logits)[v], testing::GetElement(host, v).real()) << v;
      }
    }
    EXPECT_DEATH((void)decoder->Append({tokens.data(), 1}), "1 tokens after 5 of 5");
  }
}

// Sequences of several lengths, one token each at a time.
TEST_P(TransformerCudaTest, SequencesTogetherFollowEachAlone) {
  CudaModel m(Config(), dtype());
  const std::vector<std::vector<int32_t>> prompts = {{2, 5}, {4}, {1, 0, 3}};
  auto together = Decoder::Create(m.ctx, m.model, kSeqLen, /*num_sequences=*/3);
  ASSERT_TRUE(together.ok()) << together.status();
  std::vector<Decoder> alone;
  for (int i = 0; i < 3; ++i) {
    alone.push_back(*Decoder::Create(m.ctx, m.model, kSeqLen));
    ASSERT_TRUE(together->Append(prompts[i], i).ok());
    ASSERT_TRUE(alone[i].Append(prompts[i]).ok());
  }
  const std::vector<int32_t> tokens = {1, 2, 4};
  for (const std::vector<int>& sequences : {std::vector<int>{0, 1, 2}, {2, 0}}) {
    const auto logits = together->AppendToEach(sequences, {tokens.data(), sequences.size()});
    ASSERT_TRUE(logits.ok()) << logits.status();
    const size_t vocab = Config().vocab_size;
    ASSERT_EQ(logits->size(), sequences.size() * vocab);
    for (size_t i = 0; i < sequences.size(); ++i) {
      const auto expected = alone[sequences[i]].Append({&tokens[i], 1});
      ASSERT_TRUE(expected.ok()) << expected.status();
      double largest = 0, error = 0;
      for (size_t v = 0; v < vocab; ++v) {
        largest = std::max<double>(largest, std::abs((*expected)[v]));
        error = std::max<double>(error, std::abs((*expected)[v] - (*logits)[i * vocab + v]));
      }
      EXPECT_GT(largest, 0);
      EXPECT_LT(error, 2 * Bound() * largest) << "both round";
    }
  }
}

TEST_P(TransformerCudaTest, GeneratesTheLikeliestTokens) {
  CudaModel m(Config(), dtype());
  const std::vector<int32_t> prompt = {2, 5};
  const size_t bytes = GenerationBytes(m.ctx, m.model, prompt.size(), 3);
  const size_t before = m.ctx.context().arena().used_bytes();
  std::vector<int32_t> tokens = prompt;
  const auto append = [&](int64_t token) {
    tokens.push_back(static_cast<int32_t>(token));
    return absl::OkStatus();
  };
  ASSERT_TRUE(GenerateTokens(m.ctx, m.model, prompt, 3, {.temperature = 0}, append).ok());
  EXPECT_EQ(m.ctx.context().arena().peak_bytes() - before, bytes);
  ASSERT_EQ(tokens.size(), 5u);

  // No token is far from the likeliest after those before it.
  ExactModel exact(Config(), m);
  TransformerSaved saved;
  const auto logits =
      exact.model.Logits(exact.ctx, Tensor(tokens.data(), DType::kI32, {5}), 5, &saved);
  ASSERT_TRUE(logits.ok()) << logits.status();
  const int64_t vocab = Config().vocab_size;
  for (int64_t n = 2; n < 5; ++n) {
    const double* row = logits->data<double>() + (n - 1) * vocab;
    EXPECT_GE(row[tokens[n]], *std::max_element(row, row + vocab) - Bound() * MaxAbs(*logits));
  }
  EXPECT_EQ(GenerateTokens(m.ctx, m.model, {1, 7}, 1, {}, append).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_P(TransformerCudaTest, NonFiniteTensorsAreFound) {
  CudaModel m(Config(), dtype());
  TransformerSaved saved;
  ASSERT_TRUE(m.model.Forward(m.ctx, m.tokens, m.targets, kSeqLen, &saved).ok());
  const auto first = [&] { return FirstNonFinite(m.ctx, m.model, {&m.arena, &m.adapters}, saved); };
  EXPECT_EQ(first(), "none");
  const HostCopy h = ToHost(saved.head.h);
  testing::SetElement(h, 3, NAN);
  ASSERT_TRUE(h.WriteBack().ok());
  EXPECT_EQ(first(), "final norm, element 3 of " + saved.head.h.ToString() + " (nan)");
  const HostCopy grads = ToHost(m.trained.grads());
  testing::SetElement(grads, 2, INFINITY);
  ASSERT_TRUE(grads.WriteBack().ok());
  const ParameterRecord& record = m.trained.records()[0];
  EXPECT_EQ(FirstNonFiniteGradient(m.trained, 0, m.trained.grads()),
            "the gradient of " + record.name() + ", element 2 of f32" +
                ShapeString(record.shape()) + " (inf)");
}

INSTANTIATE_TEST_SUITE_P(Models, TransformerCudaTest,
                         ::testing::Combine(::testing::ValuesIn(TestModels()),
                                            ::testing::Values(DType::kF32, DType::kBf16)),
                         [](const auto& info) {
                           return std::get<0>(info.param).name +
                                  (std::get<1>(info.param) == DType::kF32 ? "F32" : "Bf16");
                         });

}  // namespace
}  // namespace strake
