#include "train/evaluation/evaluation_text.h"

#include <string>
#include <vector>

#include "core/testing/temp_directory.h"
#include "data/document_index.h"
#include "data/text/compress.h"
#include "gtest/gtest.h"
#include "train/evaluation/choice_task_file.h"

namespace strake {
namespace {

using testing::TempDirectory;
using testing::WriteFile;

// Bytes, <s> (1) before each text, <e> (2) between two; special ids have no bytes.
TextEncoder Encoder() {
  TextEncoder encoder = ByteEncoder();
  encoder.prefix = {1};
  encoder.start = 1;
  encoder.separator = 2;
  encoder.num_bytes = [](int32_t id) { return int64_t{id > 2}; };
  encoder.hash = "0123";
  return encoder;
}

std::vector<int32_t> AllIds(const EvaluationText& text) {
  std::vector<int32_t> ids(text.num_ids());
  EXPECT_TRUE(text.Read(0, text.num_ids(), ids.data()).ok());
  return ids;
}

class EvaluationTextTest : public ::testing::Test {
 protected:
  absl::StatusOr<EvaluationText> Open(const std::string& name, const std::string& content) const {
    WriteFile(folder_ / name, content);
    return EvaluationText::Open(folder_ / name, &encoder_, 256, {});
  }

  TempDirectory folder_;
  TextEncoder encoder_ = Encoder();
};

TEST_F(EvaluationTextTest, ATextIsOneDocument) {
  const auto text = Open("a.txt", "ab\n");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(AllIds(*text), (std::vector<int32_t>{1, 'a', 'b', '\n'}));
  EXPECT_EQ(text->num_bytes(), 3);
  std::vector<int32_t> part(2);
  ASSERT_TRUE(text->Read(1, 2, part.data()).ok());
  EXPECT_EQ(part, (std::vector<int32_t>{'a', 'b'}));
}

TEST_F(EvaluationTextTest, TheSeparatorStandsBetweenDocuments) {
  const auto text = Open("a.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"\\u00e9\"}\n");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(AllIds(*text), (std::vector<int32_t>{1, 'a', 'b', 2, 1, 0xc3, 0xa9}));
  EXPECT_EQ(text->num_bytes(), 4);
}

TEST_F(EvaluationTextTest, ATokenFilesBytesAreThoseOfItsIds) {
  const std::string path = folder_ / "a.bin";
  ASSERT_TRUE(WriteTokenFile(path, {1, 'a', 'b', 2, 'c'}, TokenEncoding::kUint16).ok());
  const auto text = EvaluationText::Open(path, &encoder_, 256, {});
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->num_ids(), 5);
  EXPECT_EQ(text->num_bytes(), 3);
  const auto unknown = EvaluationText::Open(path, nullptr, 256, {});
  ASSERT_TRUE(unknown.ok()) << unknown.status();
  EXPECT_EQ(unknown->num_bytes(), std::nullopt);
}

TEST_F(EvaluationTextTest, ATokenFilesBoundariesKnowItsBytesAndTokenizer) {
  const std::string path = folder_ / "a.bin";
  ASSERT_TRUE(WriteTokenFile(path, {'a', 'b', 'c'}, TokenEncoding::kUint16).ok());
  DocumentIndex index = {.tokenizer_hash = "0123",
                         .vocab_size = 256,
                         .num_tokens = 3,
                         .end_of_text = -1,
                         .num_text_bytes = 17,
                         .sources = {"a.txt"},
                         .documents = {{.begin = 0}}};
  ASSERT_TRUE(WriteDocumentIndex(path, index).ok());
  const auto text = EvaluationText::Open(path, &encoder_, 256, {});
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->num_bytes(), 17);
  index.tokenizer_hash = "4567";
  ASSERT_TRUE(WriteDocumentIndex(path, index).ok());
  const absl::Status other = EvaluationText::Open(path, &encoder_, 256, {}).status();
  EXPECT_EQ(other.message(), "data file " + path +
                                 ": was made with another tokenizer (4567) than the model's "
                                 "(0123); prepare the text again with the model's");
  EXPECT_TRUE(EvaluationText::Open(path, nullptr, 256, {}).ok());
}

TEST_F(EvaluationTextTest, ErrorsNameTheFile) {
  encoder_.prefix = {};
  EXPECT_NE(Open("one.txt", "a").status().message().find("one.txt: holds 1 token, and"),
            absl::string_view::npos);
  encoder_.separator = 300;
  EXPECT_NE(
      Open("a.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"c\"}\n")
          .status()
          .message()
          .find("a.jsonl: becomes token 300, which is not below the model's vocabulary of 256"),
      absl::string_view::npos);
  const absl::Status text = EvaluationText::Open(folder_ / "one.txt", nullptr, 300, {}).status();
  EXPECT_NE(text.message().find("one.txt: is text, and the model has a vocabulary of 300 tokens"),
            absl::string_view::npos);
}

TEST(ChoiceTaskFileTest, TellsQuestionsFromTexts) {
  const TempDirectory folder;
  WriteFile(folder / "q.jsonl", R"({"context": "a", "choices": ["b"], "answer": 0})");
  WriteFile(folder / "text.jsonl", R"({"text": "a"})");
  EXPECT_EQ(HoldsQuestions(folder / "q.jsonl").value(), true);
  EXPECT_EQ(HoldsQuestions(folder / "text.jsonl").value(), false);
  EXPECT_FALSE(HoldsQuestions(folder / "nowhere.jsonl").ok());
  const TextEncoder encoder = Encoder();
  const auto task = OpenChoiceTask(folder / "q.jsonl", &encoder, 256, {.max_inputs = 10});
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_EQ(task->examples[0].options[0].ids, (std::vector<int32_t>{1, 'a', ' ', 'b'}));
  WriteFile(folder / "q.jsonl.gz", testing::Gzip(testing::ReadFile(folder / "q.jsonl")));
  EXPECT_EQ(HoldsQuestions(folder / "q.jsonl.gz").value(), true);
  const auto same = OpenChoiceTask(folder / "q.jsonl.gz", &encoder, 256, {.max_inputs = 10});
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->examples[0].options[0].ids, task->examples[0].options[0].ids);
  EXPECT_EQ(NumOptions(*task), 1);
  EXPECT_EQ(LongestInputs(*task), 3);
  const std::string small =
      OpenChoiceTask(folder / "q.jsonl", &encoder, 98, {.max_inputs = 10}).status().ToString();
  EXPECT_NE(small.find("q.jsonl: a question becomes token 98, which is not below"),
            std::string::npos);
}

}  // namespace
}  // namespace strake
