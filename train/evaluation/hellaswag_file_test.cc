#include "train/evaluation/hellaswag_file.h"

#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace strake {
namespace {

using Tokens = std::vector<uint16_t>;

std::string ToBytes(const void* data, size_t size) {
  return std::string(static_cast<const char*>(data), size);
}

std::string Header(int32_t magic, int32_t version, int32_t count) {
  int32_t header[256] = {magic, version, count, 100};
  return ToBytes(header, sizeof(header));
}

// 65535, bytes, number, answer, choices, and then `lists` with their sizes.
Tokens Example(uint16_t number, uint16_t answer, const std::vector<Tokens>& lists) {
  Tokens all = {65535, 0, number, answer, static_cast<uint16_t>(lists.size() - 1)};
  for (const Tokens& list : lists) {
    all.push_back(list.size());
    all.insert(all.end(), list.begin(), list.end());
  }
  all[1] = all.size() * 2;
  return all;
}

std::string File(const std::vector<Tokens>& examples) {
  std::string file = Header(20240522, 1, examples.size());
  for (const Tokens& example : examples) file += ToBytes(example.data(), example.size() * 2);
  return file;
}

const Tokens kFirst = Example(0, 2, {{5, 6, 7}, {1}, {2, 3}, {4, 4, 4}});
const Tokens kSecond = Example(1, 0, {{9}, {8, 8}, {7}});

absl::StatusOr<ChoiceTask> Parse(const std::string& file, int64_t max_inputs = 16) {
  return ParseHellaSwagFile(file, "h.bin", /*vocab_size=*/10, max_inputs);
}

TEST(HellaSwagFileTest, ReadsExamples) {
  const auto task = Parse(File({kFirst, kSecond}));
  ASSERT_TRUE(task.ok()) << task.status();
  ASSERT_EQ(task->examples.size(), 2u);
  const ChoiceExample& first = task->examples[0];
  EXPECT_EQ(first.answer, 2);
  ASSERT_EQ(first.options.size(), 3u);
  EXPECT_EQ(first.options[1].ids, (std::vector<int32_t>{5, 6, 7, 2, 3}));
  EXPECT_EQ(first.options[1].first, 3);
  EXPECT_EQ(first.options[1].length, 2);
  EXPECT_EQ(task->examples[1].options[0].ids, (std::vector<int32_t>{9, 8, 8}));
  EXPECT_EQ(task->num_truncated, 0);
}

TEST(HellaSwagFileTest, LongContextsLoseTheirBeginning) {
  const auto task = Parse(File({kFirst}), 4);
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_EQ(task->examples[0].options[2].ids, (std::vector<int32_t>{6, 7, 4, 4, 4}));
  EXPECT_EQ(task->examples[0].options[2].first, 2);
  EXPECT_EQ(task->num_truncated, 1);
}

TEST(HellaSwagFileTest, IsToldByItsMagicNumber) {
  EXPECT_TRUE(LooksLikeHellaSwagFile(File({kFirst})));
  EXPECT_FALSE(LooksLikeHellaSwagFile(Header(20240520, 1, 1)));
  EXPECT_FALSE(LooksLikeHellaSwagFile("abc"));
}

TEST(HellaSwagFileTest, NamesWhatIsWrong) {
  const std::string good = File({kFirst, kSecond});
  Tokens no_start = kSecond, long_one = kSecond, numbered = kSecond, answer = kSecond;
  no_start[0] = 0;
  long_one[1] += 2;
  numbered[2] = 0;
  answer[3] = 2;
  Tokens longer = kSecond;
  longer.push_back(3);
  longer[1] += 2;
  Tokens short_one = kSecond;
  short_one[1] -= 2;
  const struct {
    std::string file, expected;
  } kBad[] = {
      {"short", "h.bin: has 5 bytes, and the header alone has 1024"},
      {Header(20240520, 1, 1), "h.bin: its magic number and version are 20240520 and 1, not"},
      {Header(20240522, 2, 1), "are 20240522 and 2, not 20240522 and 1"},
      {Header(20240522, 1, 0), "h.bin: holds 0 examples"},
      {Header(20240522, 1, 1), "h.bin: example 0 is cut off"},
      {good.substr(0, good.size() - 2),
       "h.bin: example 1 has 24 bytes by its own account, and the "
       "file 22 from there"},
      {good + "ab", "h.bin: 2 bytes follow the 2 examples"},
      {File({kFirst, no_start}), "example 1 begins with 0, not 65535"},
      {File({kFirst, long_one}), "example 1 has 26 bytes by its own account"},
      {File({kFirst, numbered}), "example 1 has the number 0"},
      {File({kFirst, answer}), "example 1 has the answer 2, and 2 choices"},
      {File({kFirst, longer}), "example 1 goes on after its choices"},
      {File({kFirst, short_one}), "example 1 is cut off"},
      {File({Example(0, 0, {{1}, {}})}), "example 0 has a context or choice of no tokens"},
      {File({Example(0, 0, {{1}, {10}})}), "example 0 holds token 10, which is not below"},
      {File({Example(0, 0, {{1}, Tokens(17, 1)})}), "example 0 has a choice of 17 tokens"},
  };
  for (const auto& bad : kBad) {
    const absl::Status status = Parse(bad.file).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(bad.expected), absl::string_view::npos)
        << status << "\nexpected: " << bad.expected;
  }
}

}  // namespace
}  // namespace strake
