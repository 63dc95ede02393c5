// Training from the same weights on the same tokens as PyTorch and transformers
// (goldens/make_goldens.py) gives the same losses, gradient norms and logits.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "data/token_stream.h"
#include "gtest/gtest.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/checkpoint/safetensors.h"
#include "models/families/families.h"
#include "models/transformer.h"
#include "nlohmann/json.hpp"
#include "parallel/mesh/mesh.h"
#include "tests/tiny_run.h"
#include "tools/cli/user_paths.h"
#include "train/engine/engine.h"

namespace strake {
namespace {

using testing::Flags;
using testing::ReadFile;
using testing::operator+;

constexpr double kTolerance = 1e-4;
constexpr int64_t kSeqLen = 16;  // of the first sample, whose logits the goldens hold

std::string Golden(const std::string& name) {
  const auto path = RunfilePath("tests/goldens/" + name);
  EXPECT_TRUE(path.ok()) << path.status();
  return path.value_or("");
}

struct Case {
  const char* name;
  const char* family;
  Flags flags;
};

class PytorchParityTest : public ::testing::TestWithParam<Case> {
 protected:
  std::string Folder() const { return Golden(GetParam().family); }

  Flags TrainFlags() const {
    Flags flags = {"--init_from=" + Folder(),
                   "--train_data=" + Golden("tokens.bin"),
                   "--eval_every=0",
                   "--sample_every=0",
                   "--save_every=0",
                   "--threads=1",
                   "--out=" + (directory_ / "run")};
    for (const std::string flag : golden_.at("flags")) flags.push_back(flag);
    return flags + GetParam().flags;
  }

  const testing::TempDirectory directory_;
  const nlohmann::json golden_ =
      nlohmann::json::parse(ReadFile(Golden(GetParam().family + std::string("/golden.json"))));
};

std::unique_ptr<Engine> LoadModel(const std::string& folder, const Mesh& mesh) {
  const auto config = ReadHfConfig(folder + "/config.json", nullptr);
  EXPECT_TRUE(config.ok()) << config.status();
  auto engine = Engine::Create({.model = *config, .seq_len = kSeqLen, .micro_batch = 1}, mesh);
  EXPECT_TRUE(engine.ok()) << engine.status();
  const absl::Status loaded = LoadWeights(folder, *config->family, (*engine)->parameters());
  EXPECT_TRUE(loaded.ok()) << loaded;
  return std::move(*engine);
}

void ExpectLogits(const std::string& folder, const std::vector<double>& expected) {
  const Mesh mesh = Mesh::SingleRank();
  const std::unique_ptr<Engine> engine = LoadModel(folder, mesh);
  const auto stream = TokenStream::Open({Golden("tokens.bin")}, 128);
  ASSERT_TRUE(stream.ok()) << stream.status();
  std::vector<int32_t> tokens(kSeqLen);
  ASSERT_TRUE(stream->Read(0, kSeqLen, tokens.data()).ok());
  TransformerSaved saved;
  const auto logits = engine->model().Logits(
      engine->context(), Tensor(tokens.data(), DType::kI32, {kSeqLen}), kSeqLen, &saved);
  ASSERT_TRUE(logits.ok()) << logits.status();
  ASSERT_EQ(logits->num_elements(), static_cast<int64_t>(expected.size()));
  double largest = 0, error = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    const double difference = std::abs(logits->data<float>()[i] - expected[i]);
    if (!(difference <= error)) error = difference;  // NaN too
  }
  EXPECT_GT(largest, 0);
  EXPECT_LE(error, kTolerance * largest) << folder;
}

TEST_P(PytorchParityTest, LossesAndGradientNorms) {
  const testing::ProgramResult result = testing::RunProgram("tools/train", TrainFlags());
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::vector<nlohmann::json> metrics = testing::ReadMetrics(directory_ / "run");
  const std::vector<double> losses = golden_.at("losses"), norms = golden_.at("grad_norms");
  ASSERT_EQ(losses.size(), 50);
  ASSERT_EQ(metrics.size(), losses.size());
  // Otherwise the run says little about the optimizer.
  ASSERT_LT(losses.back(), 0.95 * losses.front());
  for (size_t i = 0; i < losses.size(); ++i) {
    const double loss = metrics[i].at("loss"), norm = metrics[i].at("grad_norm");
    EXPECT_NEAR(loss, losses[i], kTolerance * losses[i]) << "step " << i + 1;
    EXPECT_NEAR(norm, norms[i], kTolerance * norms[i]) << "step " << i + 1;
  }
  ExpectLogits(directory_ / "run/step-50", golden_.at("final_logits"));
}

INSTANTIATE_TEST_SUITE_P(
    Goldens, PytorchParityTest,
    ::testing::Values(Case{"Gpt2", "gpt2", {}}, Case{"Llama", "llama", {}},
                      Case{"Gpt2ReferenceOps", "gpt2", {"--ops=reference"}},
                      Case{"LlamaReferenceOps", "llama", {"--ops=reference"}},
                      Case{"Gpt2FourMicroBatches", "gpt2", {"--micro_batch=1"}},
                      Case{"LlamaFourMicroBatches", "llama", {"--micro_batch=1"}},
                      Case{"Gpt2TwoThreads", "gpt2", {"--threads=2"}},
                      Case{"LlamaTwoThreads", "llama", {"--threads=2"}}),
    [](const auto& info) { return std::string(info.param.name); });

class PytorchCheckpointTest : public ::testing::TestWithParam<std::string> {};

TEST_P(PytorchCheckpointTest, LogitsOfTheInitialWeights) {
  const std::string folder = Golden(GetParam());
  ExpectLogits(folder, nlohmann::json::parse(ReadFile(folder + "/golden.json"))["initial_logits"]);
}

// The checkpoint that transformers saved, loaded and saved again: the same tensors, bit for bit.
TEST_P(PytorchCheckpointTest, ExportHoldsTheSameTensors) {
  const std::string folder = Golden(GetParam());
  const testing::TempDirectory directory;
  const Mesh mesh = Mesh::SingleRank();
  const std::unique_ptr<Engine> engine = LoadModel(folder, mesh);
  const std::string copy_path = directory / "model.safetensors";
  const absl::Status saved =
      SaveArrays(copy_path, engine->parameters(), {{"", engine->parameters().values()}});
  ASSERT_TRUE(saved.ok()) << saved;

  const std::string theirs_path = folder + "/model.safetensors";
  const std::string theirs = ReadFile(theirs_path), ours = ReadFile(copy_path);
  const auto their_entries = ParseSafetensors(theirs, theirs_path);
  const auto our_entries = SafetensorsFile::Open(copy_path);
  ASSERT_TRUE(their_entries.ok() && our_entries.ok());
  EXPECT_EQ(our_entries->entries().size(), their_entries->size());
  for (const SafetensorsEntry& entry : *their_entries) {
    const SafetensorsEntry* copy = our_entries->Find(entry.name);
    ASSERT_NE(copy, nullptr) << entry.name;
    EXPECT_EQ(copy->shape, entry.shape) << entry.name;
    EXPECT_EQ(copy->dtype, entry.dtype) << entry.name;
    EXPECT_EQ(ours.substr(copy->begin, copy->end - copy->begin),
              theirs.substr(entry.begin, entry.end - entry.begin))
        << entry.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, PytorchCheckpointTest, ::testing::Values("gpt2", "llama"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace strake
