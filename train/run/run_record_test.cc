#include "train/run/run_record.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string WriteRunJson(const std::string& text) {
  const std::string directory = ::testing::TempDir();
  std::ofstream(directory + "/run.json") << text;
  return directory;
}

TEST(RunRecordTest, RoundTrip) {
  const RunRecord record = {.step = 3,
                            .samples = 96,
                            .due = {.sample = true},
                            .identity = {{"seed", 1}},
                            .config = {{"lr", 0.1}, {"b", 2}},
                            .fingerprint = "0123456789abcdef0123456789abcdef",
                            .data_time = 1234567890123};
  const auto read = ReadRunRecord(WriteRunJson(ToJson(record)));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->step, 3);
  EXPECT_EQ(read->samples, 96);
  EXPECT_EQ(read->due, record.due);
  EXPECT_EQ(read->identity, record.identity);
  EXPECT_EQ(read->fingerprint, record.fingerprint);
  EXPECT_EQ(read->data_time, record.data_time);
  EXPECT_TRUE(CheckSameRun(read->identity, record.identity, "x").ok());
}

TEST(RunRecordTest, BadFilesAreNamed) {
  EXPECT_EQ(ReadRunRecord("/no/such").status().code(), absl::StatusCode::kNotFound);
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {"", "run.json"},
           {"[]", "format_version"},
           {R"({"format_version": 2})", "\"format_version\" is not 1"},
           {R"({"format_version": 1, "step": -1})", "\"step\" is -1"},
           {R"({"format_version": 1, "step": 1.5})", "\"step\" is 1.5"},
           {R"({"format_version": 1, "step": 1})", "\"samples\" is missing"},
           {R"({"format_version": 1, "step": 1, "samples": 1, "due": 1})", "\"due\" is 1;"},
           {R"({"format_version": 1, "step": 1, "samples": 1, "due": ["rest"]})", "[\"rest\"]"},
           {R"({"format_version": 1, "step": 1, "samples": 1, "identity": 3})", "\"identity\""},
           {R"({"format_version": 1, "step": 1, "samples": 1, "fingerprint": "abc"})",
            "\"fingerprint\" is \"abc\"; it must have 32"},
           {R"({"format_version": 1, "step": 1, "samples": 1, "data_time": -1})",
            "\"data_time\" is -1"},
       }) {
    const auto read = ReadRunRecord(WriteRunJson(text));
    EXPECT_THAT(std::string(read.status().message()), HasSubstr(message)) << text;
  }
}

TEST(RunRecordTest, ACheckpointsNumbersAgree) {
  const std::string folder = ::testing::TempDir() + "/step-3";
  std::filesystem::create_directory(folder);
  const auto error = [&](int64_t step, int64_t samples) {
    const RunRecord record = {
        .step = step, .samples = samples, .identity = {{"global_batch", 4}}, .config = {{"a", 1}}};
    std::ofstream(folder + "/run.json") << ToJson(record);
    return std::string(ReadCheckpointRecord(folder).status().message());
  };
  EXPECT_EQ(error(3, 12), "");
  EXPECT_EQ(error(4, 16), folder + "/run.json: \"step\" is 4, but the folder is step-3");
  EXPECT_THAT(error(3, 13), HasSubstr("\"samples\" is 13, but 3 steps of 4 sequences are"));
  EXPECT_EQ(ReadCheckpointRecord(folder + "/").ok(), false);
}

TEST(RunRecordTest, EachDifferenceIsListed) {
  const nlohmann::ordered_json saved = {{"seed", 1}, {"lr", 0.1}, {"model", {{"n_layer", 2}}}};
  const nlohmann::ordered_json now = {
      {"seed", 1}, {"lr", 0.2}, {"model", {{"n_layer", 3}}}, {"truncate", true}};
  EXPECT_THAT(std::string(CheckSameRun(saved, now, "runs/a").message()),
              AllOf(HasSubstr("runs/a holds another run"), HasSubstr("lr is 0.1 there, 0.2 here"),
                    HasSubstr("model.n_layer is 2 there, 3 here"),
                    HasSubstr("truncate is not set there, true here"), Not(HasSubstr("seed"))));
}

}  // namespace
}  // namespace strake
