// options.skip_data: what is trained on without the documents of a list.
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/thread_team.h"
#include "core/tensor/tensor_buffer.h"
#include "core/testing/temp_directory.h"
#include "data/document_index.h"
#include "data/token_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/families.h"
#include "parallel/mesh/mesh.h"
#include "train/run/run_record.h"
#include "train/run/trainer.h"
#include "train/run/training_data.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kNumDocuments = 60;

// Document i is a few tokens i, and begins at byte 10 i of docs.jsonl.
class SkipDataTest : public ::testing::Test {
 protected:
  SkipDataTest() {
    std::vector<int32_t> tokens;
    DocumentIndex index;
    index.tokenizer_hash = "hash";
    index.vocab_size = 256;
    index.sources = {"docs.jsonl"};
    for (int i = 0; i < kNumDocuments; ++i) {
      index.documents.push_back({static_cast<int64_t>(tokens.size()), int64_t{10} * i, 0});
      tokens.insert(tokens.end(), 5 + i % 7, i);
    }
    index.num_tokens = static_cast<int64_t>(tokens.size());
    EXPECT_TRUE(WriteTokenFile(directory_ / "a.bin", tokens, TokenEncoding::kUint16).ok());
    EXPECT_TRUE(WriteDocumentIndex(directory_ / "a.bin", index).ok());
    ModelConfig& model = options_.engine.model;
    model = *ModelPreset("llama-tiny");
    model.num_layers = 1;
    model.hidden_size = 16;
    model.num_heads = model.num_kv_heads = 2;
    model.head_dim = 8;
    model.intermediate_size = 32;
    options_.engine.seq_len = 4;
    options_.engine.micro_batch = options_.global_batch = 2;
    options_.train_files = {directory_ / "a.bin"};
    options_.schedule = {
        .kind = ScheduleKind::kConstant, .lr = 0.01, .warmup_steps = 1, .total_steps = 1};
    options_.directory = directory_ / "run";
    options_.eval_every = options_.sample_every = options_.save_every = 0;
  }

  // Gives the options this list.
  void Skip(const std::string& list, const std::string& name = "list") {
    options_.skip_data = directory_ / name;
    testing::WriteFile(options_.skip_data, list);
  }
  std::unique_ptr<TrainingData> Open() const {
    auto data = TrainingData::Open(options_);
    EXPECT_TRUE(data.ok()) << data.status();
    return data.ok() ? *std::move(data) : nullptr;
  }
  std::string OpenError() const {
    return std::string(TrainingData::Open(options_).status().message());
  }
  std::string TrainError() const {
    const Mesh mesh = Mesh::SingleRank();
    const auto trainer = Trainer::Create(options_, mesh, {});
    if (!trainer.ok()) return std::string(trainer.status().message());
    return std::string((*trainer)->Run().status().message());
  }
  std::string Fingerprint() const {
    ThreadTeam team(1);
    return Open()->Fingerprint(team);
  }

  // The tokens, which are documents, of samples [begin, end).
  static std::set<int32_t> TokensIn(const TrainingData& data, int64_t begin, int64_t end) {
    std::set<int32_t> documents;
    const TensorBuffer tokens(DType::kI32, {4}), targets(DType::kI32, {4});
    for (int64_t i = begin; i < end; ++i) {
      EXPECT_TRUE(data.train_loader().Load(i, 1, tokens.tensor(), targets.tensor()).ok());
      for (const Tensor& tensor : {tokens.tensor(), targets.tensor()}) {
        documents.insert(tensor.data<int32_t>(), tensor.data<int32_t>() + 4);
      }
    }
    return documents;
  }
  static std::set<int32_t> TokensOfEpoch(const TrainingData& data) {
    return TokensIn(data, 0, data.train_loader().num_samples());
  }

  const testing::TempDirectory directory_;
  TrainerOptions options_;
};

TEST_F(SkipDataTest, WhatIsSkippedIsInNoSampleAndNothingElseChanges) {
  const auto whole = Open();
  ASSERT_NE(whole, nullptr);
  const std::set<int32_t> all = TokensOfEpoch(*whole);
  ASSERT_GT(all.size(), 45) << "a tenth is held back";
  // The first that is trained on, one of the middle, and the last but one.
  const std::vector<int32_t> skipped = {*all.begin(), *std::next(all.begin(), 20),
                                        *std::next(all.rbegin())};
  std::string list;
  for (const int32_t i : skipped) absl::StrAppend(&list, "docs.jsonl:", 10 * i, "\n");
  Skip(list);
  const auto data = Open();
  ASSERT_NE(data, nullptr);
  std::set<int32_t> want = all;
  int64_t num_tokens = 0;
  for (const int32_t i : skipped) {
    want.erase(i);
    num_tokens += 5 + i % 7;
  }
  EXPECT_EQ(TokensOfEpoch(*data), want);
  EXPECT_EQ(data->num_skipped_tokens(), num_tokens);
  EXPECT_EQ(data->num_train_tokens(), whole->num_train_tokens() - num_tokens);
  EXPECT_TRUE(data->split().val == whole->split().val);
}

TEST_F(SkipDataTest, TheListIsTheRunsIdentity) {
  const auto whole = Open();
  ASSERT_NE(whole, nullptr);
  const std::set<int32_t> trained_on = TokensOfEpoch(*whole);
  auto at = trained_on.begin();
  const std::string one = absl::StrCat("docs.jsonl:", 10 * *at, "\n");
  const std::string two = absl::StrCat("docs.jsonl:", 10 * *++at, "\n");
  Skip(one + two);
  ASSERT_EQ(TrainError(), "");
  const auto record = ReadRunRecord(options_.directory);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_THAT(record->identity.at("train_data").get<std::string>(),
              ::testing::EndsWith(absl::StrCat(
                  ", ", whole->num_train_tokens() - Open()->num_train_tokens(), " skipped")));
  EXPECT_EQ(record->config.at("skip_data"), options_.skip_data);
  options_.schedule.total_steps = 2;
  Skip("# the same\n" + two + one + two, "elsewhere");
  EXPECT_EQ(TrainError(), "");
  options_.schedule.total_steps = 3;
  Skip(one);
  EXPECT_THAT(TrainError(), AllOf(HasSubstr("train_data is"), HasSubstr(" skipped")));
  options_.skip_data = "";
  EXPECT_THAT(TrainError(), AllOf(HasSubstr("train_data is"), HasSubstr(" skipped")));
}

TEST_F(SkipDataTest, AListOfWhatIsNotTrainedOnChangesNothing) {
  const std::string fingerprint = Fingerprint();
  const std::set<int32_t> trained_on = TokensOfEpoch(*Open());
  int held_back = 0;
  while (trained_on.count(held_back) > 0) ++held_back;
  ASSERT_LT(held_back, kNumDocuments);
  Skip("# nothing\n");
  EXPECT_EQ(Fingerprint(), fingerprint);
  Skip(absl::StrCat("docs.jsonl:", 10 * held_back));
  const auto data = Open();
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(data->num_skipped_tokens(), 0);
  EXPECT_THAT(data->notes(), ElementsAre("skip_data: 1 of 1 listed document of train_files=" +
                                         options_.train_files[0] +
                                         " is held back for validation, and stays there"));
  EXPECT_EQ(Fingerprint(), fingerprint);
  // Beside one that is left out, among comments of more bytes than any configuration has.
  Skip(absl::StrCat("#", std::string(size_t{64} << 20, 'x'), "\ndocs.jsonl:", 10 * held_back,
                    "\ndocs.jsonl:", 10 * *trained_on.begin(), "\n"));
  const auto two = Open();
  ASSERT_NE(two, nullptr);
  EXPECT_THAT(two->notes(), ElementsAre(HasSubstr(": 1 of 2 listed documents of "),
                                        HasSubstr(" tokens are not trained on")));
}

TEST_F(SkipDataTest, TextsAreSkippedAsAWhole) {
  options_.train_files.clear();
  std::string list;
  for (int i = 0; i < 20; ++i) {
    options_.train_files.push_back(directory_ / absl::StrCat(i, ".txt"));
    testing::WriteFile(options_.train_files[i], std::string(8, static_cast<char>('a' + i)));
  }
  const auto whole = Open();
  ASSERT_NE(whole, nullptr);
  const int32_t skipped = *std::next(TokensOfEpoch(*whole).begin(), 3);
  Skip(options_.train_files[skipped - 'a'] + ":0");
  const auto data = Open();
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(data->num_skipped_tokens(), 8);
  EXPECT_EQ(TokensOfEpoch(*data).count(skipped), 0);
}

TEST_F(SkipDataTest, AllSourcesOfABlendSkip) {
  options_.train_files.clear();
  options_.train_sources = {{"a", {directory_ / "a.bin"}, 1}, {"b", {directory_ / "a.bin"}, 1}};
  const auto whole = Open();
  ASSERT_NE(whole, nullptr);
  const int64_t samples = 3 * whole->train_loader().num_samples();
  const int32_t first = *TokensIn(*whole, 0, samples).begin();
  Skip(absl::StrCat("docs.jsonl:", 10 * first));
  const auto data = Open();
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(data->num_skipped_tokens(), 2 * (5 + first % 7));
  EXPECT_EQ(TokensIn(*data, 0, samples).count(first), 0);
}

TEST_F(SkipDataTest, ListsThatCannotBeUsedAreErrors) {
  Skip("docs.jsonl:0\n\ndocs.jsonl:5\n");
  EXPECT_THAT(OpenError(), HasSubstr("skip_data=" + options_.skip_data +
                                     ": line 3: the training data has no document docs.jsonl:5; "
                                     "its first is called docs.jsonl:0"));
  Skip("a.bin:0");
  EXPECT_THAT(OpenError(), HasSubstr("line 1: the training data has no document a.bin:0"));
  Skip("docs.jsonl");
  EXPECT_THAT(OpenError(), HasSubstr(options_.skip_data + ": line 1: \"docs.jsonl\" is not"));
  std::string all;
  for (int i = 0; i < kNumDocuments; ++i) absl::StrAppend(&all, "docs.jsonl:", 10 * i, "\n");
  Skip(all);
  EXPECT_THAT(OpenError(), AllOf(HasSubstr("skip_data=" + options_.skip_data),
                                 HasSubstr("leaves nothing to train on of train_files=")));
  std::filesystem::copy_file(directory_ / "a.bin", directory_ / "b.bin");
  options_.train_files = {directory_ / "b.bin"};
  Skip("b.bin:0");
  EXPECT_THAT(OpenError(), HasSubstr("/b.bin are not known, for it has no index"));
  options_.skip_data = directory_ / "missing";
  EXPECT_THAT(OpenError(), AllOf(HasSubstr("skip_data"), HasSubstr(options_.skip_data)));
}

}  // namespace
}  // namespace strake
