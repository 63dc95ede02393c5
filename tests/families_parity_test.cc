// Each family's logits, loss, every gradient of one step, and 20 steps of AdamW are those of
// transformers (goldens/make_family_goldens.py).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor_buffer.h"
#include "core/testing/temp_directory.h"
#include "data/token_stream.h"
#include "gtest/gtest.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/families/families.h"
#include "models/transformer.h"
#include "nlohmann/json.hpp"
#include "parallel/mesh/mesh.h"
#include "tools/cli/user_paths.h"
#include "train/engine/engine.h"

namespace strake {
namespace {

using testing::ReadFile;

constexpr double kTolerance = 1e-4;
constexpr int64_t kVocab = 128, kSeqLen = 16, kBatch = 2, kSteps = 20;
constexpr AdamWStep kStep = {.lr = 2e-3, .eps = 1e-5, .weight_decay = 0.1};
constexpr double kClipNorm = 0.5;

std::string Golden(const std::string& name) {
  const auto path = RunfilePath("tests/goldens/" + name);
  EXPECT_TRUE(path.ok()) << path.status();
  return path.value_or("");
}

double Largest(const float* values, int64_t count) {
  double largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(double{values[i]}));
  return largest;
}

// Infinite where a value is not a number.
double LargestDifference(const float* a, const float* b, int64_t count) {
  double largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double difference = std::abs(double{a[i]} - b[i]);
    if (!(difference <= largest)) largest = std::isnan(difference) ? INFINITY : difference;
  }
  return largest;
}

class FamiliesParityTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    golden_ = nlohmann::json::parse(ReadFile(folder_ + "/golden.json"));
    const auto config = ReadHfConfig(folder_ + "/config.json", &notices_);
    ASSERT_TRUE(config.ok()) << config.status();
    auto engine =
        Engine::Create({.model = *config, .seq_len = kSeqLen, .micro_batch = kBatch}, mesh_);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = std::move(*engine);
    const absl::Status loaded = LoadWeights(folder_, *config->family, engine_->parameters());
    ASSERT_TRUE(loaded.ok()) << loaded;
    const auto stream = TokenStream::Open({Golden("tokens.bin")}, kVocab);
    ASSERT_TRUE(stream.ok()) << stream.status();
    tokens_.resize(kSteps * kBatch * kSeqLen + 1);
    ASSERT_TRUE(stream->Read(0, tokens_.size(), tokens_.data()).ok());
  }

  // The tokens of a step, or their successors.
  Tensor Batch(int64_t step, int64_t shift) {
    return Tensor(tokens_.data() + step * kBatch * kSeqLen + shift, DType::kI32,
                  {kBatch * kSeqLen});
  }

  void Accumulate(int64_t step) {
    const absl::Status added = engine_->AccumulateGradients(
        Batch(step, 0), Batch(step, 1), 1.0 / (kBatch * kSeqLen), /*last=*/true);
    ASSERT_TRUE(added.ok()) << added;
    const absl::Status summed = engine_->SumGradients();
    ASSERT_TRUE(summed.ok()) << summed;
  }

  const std::string folder_ = Golden("families/" + GetParam());
  const Mesh mesh_ = Mesh::SingleRank();
  nlohmann::json golden_;
  std::vector<std::string> notices_;
  std::unique_ptr<Engine> engine_;
  std::vector<int32_t> tokens_;
};

TEST_P(FamiliesParityTest, EveryKeyIsRead) {
  for (const std::string& notice : notices_) {
    EXPECT_EQ(notice.find("nothing reads"), std::string::npos) << notice;
  }
}

TEST_P(FamiliesParityTest, Logits) {
  const std::vector<float> expected = golden_.at("logits");
  const Tensor tokens(tokens_.data(), DType::kI32, {kSeqLen});
  TransformerSaved saved;
  const auto logits = engine_->model().Logits(engine_->context(), tokens, kSeqLen, &saved);
  ASSERT_TRUE(logits.ok()) << logits.status();
  const int64_t count = logits->num_elements();
  ASSERT_EQ(count, static_cast<int64_t>(expected.size()));
  EXPECT_LE(LargestDifference(logits->data<float>(), expected.data(), count),
            kTolerance * Largest(expected.data(), count));
}

TEST_P(FamiliesParityTest, EveryGradient) {
  Accumulate(0);
  ParameterArena& arena = engine_->parameters();
  const TensorBuffer golden(DType::kF32, {arena.values().num_elements()});
  const absl::Status loaded =
      LoadArrays(folder_ + "/gradients.safetensors", arena, {{"", golden.tensor()}});
  ASSERT_TRUE(loaded.ok()) << loaded;
  ASSERT_EQ(engine_->grads().size(), 1u);
  const Tensor& grads = engine_->grads()[0].values;
  const float* const expected = golden.tensor().data<float>();
  const double largest_of_all = Largest(expected, golden.tensor().num_elements());
  ASSERT_GT(largest_of_all, 1e-2);
  for (const ParameterRecord& record : arena.records()) {
    const int64_t offset = record.offset, count = record.num_elements();
    // A bias of keys that are not rotated adds one number to all scores of a query: its gradient is
    // 0, and both sides have rounding.
    const double largest = std::max(Largest(expected + offset, count), 1e-3 * largest_of_all);
    EXPECT_LE(LargestDifference(grads.data<float>() + offset, expected + offset, count),
              kTolerance * largest)
        << record.name();
  }
}

TEST_P(FamiliesParityTest, TwentySteps) {
  const std::vector<double> losses = golden_.at("losses"), norms = golden_.at("grad_norms");
  ASSERT_EQ(losses.size(), static_cast<size_t>(kSteps));
  for (int64_t step = 0; step < kSteps; ++step) {
    Accumulate(step);
    AdamWStep update = kStep;
    update.step = step + 1;
    const auto norm = engine_->Update(update, kClipNorm);
    ASSERT_TRUE(norm.ok()) << norm.status();
    const auto agreement = engine_->Agree(/*stop=*/false);
    ASSERT_TRUE(agreement.ok()) << agreement.status();
    const double loss = agreement->loss_sum / (kBatch * kSeqLen);
    EXPECT_NEAR(loss, losses[step], kTolerance * losses[step]) << "step " << step + 1;
    EXPECT_NEAR(*norm, norms[step], kTolerance * norms[step]) << "step " << step + 1;
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, FamiliesParityTest,
                         ::testing::Values("gemma2", "gemma3_text", "gpt2", "gpt_bigcode",
                                           "gpt_bigcode_heads", "gpt_neox", "gpt_neox_sequential",
                                           "granite", "llama", "mistral", "olmo2", "olmo3", "phi3",
                                           "qwen2", "qwen3", "smollm3", "stablelm"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace strake
