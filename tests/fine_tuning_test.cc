// Fine-tuning examples as TRL's SFTTrainer has them (goldens/make_fine_tuning_goldens.py): the same
// tokens, the same of them are learnt, and their loss and every gradient.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/memory/parameter_arena.h"
#include "core/ops/documents.h"
#include "core/tensor/tensor_buffer.h"
#include "core/testing/temp_directory.h"
#include "data/chat/chat_files.h"
#include "data/data_loader.h"
#include "data/document_index.h"
#include "data/target_ranges.h"
#include "data/text/prepare.h"
#include "data/token_batch.h"
#include "data/token_file.h"
#include "data/token_ranges.h"
#include "data/token_stream.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "data/tokenizer/tokenizer.h"
#include "gtest/gtest.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/families/families.h"
#include "nlohmann/json.hpp"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine.h"

namespace strake {
namespace {

constexpr char kFolder[] = "tests/goldens/fine_tuning/";
constexpr int64_t kSeqLen = 128, kMicroBatch = 3;

// TRL's model computes in double but for RoPE's angles, which are of f32: one near 90 errs by 2^-18
// = 4e-6. Here all is f32, in sums of up to 359 terms, through two layers, which is less. Measured:
// 5e-9 for the loss, 1.3e-6 for the worst gradient.
constexpr double kTolerance = 1e-4;

// Returns what PrepareTokens() makes of the examples.
absl::StatusOr<PreparedTokens> PrepareExamples(const Tokenizer& tokenizer,
                                               const std::string& directory) {
  const std::vector<std::string> files = {std::string(kFolder) + "examples.jsonl"};
  const auto chat = OpenChatFiles({.files = files, .format = "chatml"}, &tokenizer);
  EXPECT_TRUE(chat.ok() && chat->has_value()) << chat.status();
  PrepareOptions options;
  options.files = files;
  options.chat = &**chat;
  options.directory = directory;
  return PrepareTokens(tokenizer, options);
}

TEST(FineTuningTest, TokensAndAnswersAreThoseOfTrl) {
  const std::string folder = kFolder;
  const auto golden = nlohmann::json::parse(testing::ReadFile(folder + "golden.json"));
  const auto tokenizer = OpenTokenizer(folder, {});
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const testing::TempDirectory directory;
  const auto prepared = PrepareExamples(**tokenizer, directory / "tokens");
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_EQ(prepared->num_documents, 20);
  EXPECT_EQ(prepared->num_answer_tokens, golden["targets"].get<int64_t>());

  std::vector<int32_t> expected;
  std::vector<bool> learnt;
  std::vector<int64_t> begins;
  for (const auto& example : golden["examples"]) {
    begins.push_back(static_cast<int64_t>(expected.size()));
    for (const auto& id : example["ids"]) expected.push_back(id.get<int32_t>());
    for (const auto& value : example["learnt"]) learnt.push_back(value.get<int>() == 1);
  }
  ASSERT_EQ(prepared->token_files.size(), 1);
  const std::string path = prepared->token_files[0];
  const auto file = TokenFile::Open(path, (*tokenizer)->vocab_size());
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<int32_t> tokens(file->num_tokens());
  file->ReadUnchecked(0, file->num_tokens(), tokens.data());
  EXPECT_EQ(tokens, expected);
  const auto targets = ReadTargetRanges(path, file->num_tokens());
  ASSERT_TRUE(targets.ok() && targets->has_value()) << targets.status();
  std::vector<bool> is_target(tokens.size(), false);
  for (const TokenRange& range : (*targets)->ranges) {
    for (int64_t i = range.begin; i < range.end; ++i) is_target[i] = true;
  }
  EXPECT_EQ(is_target, learnt);
  const auto index = ReadDocumentIndex(path, file->num_tokens());
  ASSERT_TRUE(index.ok() && index->has_value()) << index.status();
  ASSERT_EQ((*index)->documents.size(), begins.size());
  for (size_t i = 0; i < begins.size(); ++i) EXPECT_EQ((*index)->documents[i].begin, begins[i]);
}

// The engine, and the examples as its rows.
class FineTuningStepTest : public ::testing::Test {
 protected:
  void SetUp() override {
    golden_ = nlohmann::json::parse(testing::ReadFile(folder_ + "golden.json"));
    OpenExamples();
  }

  void MakeEngine() {
    std::vector<std::string> notices;
    const auto config = ReadHfConfig(folder_ + "config.json", &notices);
    ASSERT_TRUE(config.ok()) << config.status();
    auto engine = Engine::Create(
        {.model = *config, .seq_len = kSeqLen, .micro_batch = kMicroBatch, .documents = true},
        mesh_);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = std::move(*engine);
    const absl::Status loaded = LoadWeights(folder_, *config->family, engine_->parameters());
    ASSERT_TRUE(loaded.ok()) << loaded;
  }

  void OpenExamples() {
    const auto tokenizer = OpenTokenizer(folder_, {});
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    const auto prepared = PrepareExamples(**tokenizer, directory_ / "tokens");
    ASSERT_TRUE(prepared.ok()) << prepared.status();
    const std::string& path = prepared->token_files.at(0);
    auto stream = TokenStream::Open({path}, (*tokenizer)->vocab_size());
    ASSERT_TRUE(stream.ok()) << stream.status();
    stream_ = *std::move(stream);
    const auto index = ReadDocumentIndex(path, stream_->num_tokens());
    ASSERT_TRUE(index.ok() && index->has_value()) << index.status();
    for (const DocumentIndex::Document& document : (*index)->documents) {
      begins_.push_back(document.begin);
    }
    auto targets = ReadTargetRanges(path, stream_->num_tokens());
    ASSERT_TRUE(targets.ok()) << targets.status();
    ranges_ = *std::move(targets);
  }

  void MakeRows(DocumentMode mode) {
    auto loader = DataLoader::Create(&*stream_, TokenRanges({{0, stream_->num_tokens()}}),
                                     {.seq_len = kSeqLen, .documents = mode},
                                     {.begins = begins_, .targets = ranges_});
    ASSERT_TRUE(loader.ok()) << loader.status();
    loader_ = *std::move(loader);
  }

  // Adds the gradients of the mean loss, and returns that.
  double MeanLoss() {
    const int64_t num_rows = loader_->num_samples(), num_targets = golden_.at("targets");
    EXPECT_EQ(loader_->NumTargets(0, num_rows), num_targets);
    const double scale = 1.0 / static_cast<double>(num_targets);
    for (int64_t row = 0; row < num_rows; row += kMicroBatch) {
      const int64_t count = std::min(kMicroBatch, num_rows - row);
      RunRows(row, count, [&](const TokenBatch& batch, const Documents& documents) {
        return engine_->AccumulateGradients(batch.tokens, batch.targets, scale,
                                            /*last=*/row + count == num_rows, documents);
      });
    }
    const absl::Status summed = engine_->SumGradients();
    EXPECT_TRUE(summed.ok()) << summed;
    return LossSum() * scale;
  }

  void ExpectGradients() const {
    const ParameterArena& arena = engine_->parameters();
    const TensorBuffer golden(DType::kF32, {arena.values().num_elements()});
    const absl::Status loaded =
        LoadArrays(folder_ + "gradients.safetensors", arena, {{"", golden.tensor()}});
    ASSERT_TRUE(loaded.ok()) << loaded;
    ASSERT_EQ(engine_->grads().size(), 1);
    const float* const got = engine_->grads()[0].values.data<float>();
    const float* const expected = golden.tensor().data<float>();
    for (const ParameterRecord& record : arena.records()) {
      double largest = 0, error = 0;
      for (int64_t i = record.offset; i < record.end(); ++i) {
        ASSERT_TRUE(std::isfinite(got[i])) << record.name();
        largest = std::max(largest, std::abs(double{expected[i]}));
        error = std::max(error, std::abs(double{got[i]} - expected[i]));
      }
      EXPECT_GT(largest, 1e-3) << record.name();
      EXPECT_LE(error, kTolerance * largest) << record.name();
    }
  }

  // Runs pass(batch, its documents) on rows [first, first + count).
  template <typename Pass>
  void RunRows(int64_t first, int64_t count, const Pass& pass) {
    TokenBatch batch = {.tokens = tokens_.tensor().Rows(0, count * kSeqLen),
                        .targets = targets_.tensor().Rows(0, count * kSeqLen),
                        .positions = positions_.tensor().Rows(0, count * kSeqLen)};
    const absl::Status loaded = loader_->Load(first, count, &batch);
    ASSERT_TRUE(loaded.ok()) << loaded;
    const absl::Status passed =
        pass(batch, Documents{.positions = batch.positions, .lengths = batch.lengths});
    ASSERT_TRUE(passed.ok()) << passed;
  }

  double LossSum() {
    const auto agreement = engine_->Agree(/*stop=*/false);
    EXPECT_TRUE(agreement.ok()) << agreement.status();
    return agreement->loss_sum;
  }

  // The number of the conversation that a row has alone.
  int64_t ExampleOf(int64_t row) const {
    const std::vector<TokenRange> ranges = loader_->TokensOf(row);
    EXPECT_EQ(ranges.size(), 1);
    return std::find(begins_.begin(), begins_.end(), ranges.at(0).begin) - begins_.begin();
  }

  const std::string folder_ = kFolder;
  const testing::TempDirectory directory_;
  const Mesh mesh_ = Mesh::SingleRank();
  const TensorBuffer tokens_{DType::kI32, {kMicroBatch * kSeqLen}};
  const TensorBuffer targets_{DType::kI32, {kMicroBatch * kSeqLen}};
  const TensorBuffer positions_{DType::kI32, {kMicroBatch * kSeqLen}};
  nlohmann::json golden_;
  std::unique_ptr<Engine> engine_;
  std::optional<TokenStream> stream_;
  std::vector<int64_t> begins_;
  std::optional<TargetRanges> ranges_;
  std::optional<DataLoader> loader_;
};

TEST_F(FineTuningStepTest, LossAndEveryGradientAreThoseOfTrl) {
  const double expected = golden_.at("loss");
  for (const DocumentMode mode : {DocumentMode::kMask, DocumentMode::kPad}) {
    SCOPED_TRACE(mode == DocumentMode::kMask ? "mask" : "pad");
    MakeEngine();
    MakeRows(mode);
    EXPECT_NEAR(MeanLoss(), expected, kTolerance * expected);
    ExpectGradients();
  }
}

// TRL trains on one form at a time, in the order of the file.
TEST_F(FineTuningStepTest, EachFormsLossIsThatOfTrl) {
  MakeEngine();
  MakeRows(DocumentMode::kPad);
  const nlohmann::json& parts = golden_.at("parts");
  std::vector<double> losses;
  for (const auto& part : parts) {
    losses.insert(losses.end(), part.at("examples").get<int64_t>(), 0);
  }
  ASSERT_EQ(loader_->num_samples(), losses.size());
  for (int64_t row = 0; row < loader_->num_samples(); ++row) {
    RunRows(row, 1, [&](const TokenBatch& batch, const Documents& documents) {
      return engine_->EvaluateLoss(batch.tokens, batch.targets, documents);
    });
    losses.at(ExampleOf(row)) = LossSum();
  }
  auto first = losses.begin();
  for (const auto& part : parts) {
    const auto end = first + part.at("examples").get<int64_t>();
    const double loss = part.at("loss"), num_targets = part.at("targets");
    EXPECT_NEAR(std::accumulate(std::exchange(first, end), end, 0.0) / num_targets, loss,
                kTolerance * loss);
  }
}

}  // namespace
}  // namespace strake
