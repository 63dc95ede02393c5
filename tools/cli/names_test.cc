#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/cli/foreign_names.h"
#include "tools/cli/nearest_name.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(NearestNameTest, DistanceCountsLetters) {
  EXPECT_EQ(NameDistance("", ""), 0);
  EXPECT_EQ(NameDistance("", "abc"), 3);
  EXPECT_EQ(NameDistance("abc", ""), 3);
  EXPECT_EQ(NameDistance("seq_len", "seqlen"), 1) << "left out";
  EXPECT_EQ(NameDistance("step", "steps"), 1) << "inserted";
  EXPECT_EQ(NameDistance("steqs", "steps"), 1) << "replaced";
  EXPECT_EQ(NameDistance("setps", "steps"), 1) << "swapped";
  EXPECT_EQ(NameDistance("kitten", "sitting"), 3);
  EXPECT_EQ(NameDistance("Seq-Len", "seq_len"), 0) << "spelled otherwise";
}

TEST(NearestNameTest, FarNamesAreNotSuggested) {
  const std::vector<std::string> names = {"schedule", "seq_len", "tp",
                                          "lr",       "steps",   "sequence_parallel"};
  EXPECT_EQ(NearestName("seqlen", names), "seq_len");
  EXPECT_EQ(NearestName("schedul", names), "schedule");
  EXPECT_EQ(NearestName("sedule", names), "schedule") << "two of eight letters";
  EXPECT_EQ(NearestName("setps", names), "steps");
  EXPECT_EQ(NearestName("pt", names), "tp") << "one letter is always near";
  EXPECT_EQ(NearestName("sequence_paralel_", names), "sequence_parallel");
  EXPECT_EQ(NearestName("batch_size", names), "") << "most letters differ";
  EXPECT_EQ(NearestName("hed", names), "");
  EXPECT_EQ(NearestName("schedules_of_what", names), "");
  EXPECT_EQ(NearestName("x", {}), "");
}

TEST(NearestNameTest, ThirdOfTheLongerNameIsTheLimit) {
  EXPECT_EQ(NearestName("abcdxx", {"abcdef"}), "abcdef") << "2 of 6";
  EXPECT_EQ(NearestName("abcxxx", {"abcdef"}), "") << "3 of 6";
  EXPECT_EQ(NearestName("abcdef", {"abcdefghi"}), "abcdefghi") << "3 of 9";
  EXPECT_EQ(NearestName("abcde", {"abcdefgh"}), "") << "3 of 8";
}

// The answer in a program with these options.
std::string Answer(const std::string& name, const std::vector<std::string>& options) {
  return AnswerToForeignName(name, [&](absl::string_view option) {
    return std::find(options.begin(), options.end(), option) != options.end();
  });
}

TEST(ForeignNamesTest, AreAnsweredWithOurs) {
  const std::vector<std::string> train = {"lr", "micro_batch", "global_batch", "dp", "dtype"};
  EXPECT_EQ(Answer("learning_rate", train), "it is --lr here");
  EXPECT_EQ(Answer("learning-rate", train), "it is --lr here");
  EXPECT_EQ(Answer("bf16", train), "it is --dtype=bf16 here");
  EXPECT_EQ(Answer("gradient_accumulation_steps", train),
            "give the sequences of a step as --global_batch: --micro_batch times --dp times these "
            "steps");
  EXPECT_EQ(Answer("-l", train), "it is --lr here") << "llm.c's";
  EXPECT_EQ(Answer("no_such_name", train), "");
}

TEST(ForeignNamesTest, AnswersNameOptionsOfTheProgramAlone) {
  EXPECT_EQ(Answer("batch_size", {"batch"}), "it is --batch here");
  EXPECT_EQ(Answer("batch_size", {"micro_batch"}), "") << "the answer names --global_batch, too";
  EXPECT_EQ(Answer("model_name_or_path", {"checkpoint"}), "it is --checkpoint here");
  EXPECT_EQ(Answer("learning_rate", {"steps"}), "");
}

TEST(ForeignNamesTest, FlagsAreFoundInSentences) {
  EXPECT_THAT(FlagsInAnswer("--lr"), ElementsAre("lr"));
  EXPECT_THAT(FlagsInAnswer("give --a_1=2, or (--b): --c"), ElementsAre("a_1", "b", "c"));
  EXPECT_THAT(FlagsInAnswer("none - at all"), IsEmpty());
}

TEST(ForeignNamesTest, EveryRowCanBeReached) {
  std::set<std::pair<std::string, std::vector<std::string>>> seen;
  EXPECT_GT(ForeignNames().size(), 100);
  for (const ForeignName& foreign : ForeignNames()) {
    const std::vector<std::string> flags = FlagsInAnswer(foreign.answer);
    EXPECT_THAT(flags, ::testing::Not(IsEmpty())) << foreign.name;
    EXPECT_TRUE(seen.insert({foreign.name, flags}).second) << foreign.name << " twice";
    EXPECT_EQ(foreign.name.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ "), std::string::npos);
    EXPECT_NE(Answer(foreign.name, flags), "") << foreign.name;
    // An option is found before the table is asked.
    for (const std::string& flag : flags) {
      EXPECT_NE(foreign.name, flag) << "an answer must not name its question";
    }
  }
}

}  // namespace
}  // namespace strake
