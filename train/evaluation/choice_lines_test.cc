#include "train/evaluation/choice_lines.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

constexpr char kGood[] = R"({"context": "The sky is", "choices": ["blue", "loud"], "answer": 1})";

TEST(ChoiceLinesTest, ReadsQuestions) {
  const std::string text = absl::StrCat(
      "\n", kGood, "\r\n   \n",
      R"({"id": 5, "answer": "b", "choices": ["a", "b"], "context": "", "more": {"x": []}})", "\n");
  const auto questions = ParseChoiceLines(text, "q.jsonl");
  ASSERT_TRUE(questions.ok()) << questions.status();
  ASSERT_EQ(questions->size(), 2u);
  EXPECT_EQ((*questions)[0].context, "The sky is");
  EXPECT_EQ((*questions)[0].choices, (std::vector<std::string>{"blue", "loud"}));
  EXPECT_EQ((*questions)[0].answer, 1);
  EXPECT_EQ((*questions)[0].line, 2);
  EXPECT_EQ((*questions)[1].answer, 1);
  EXPECT_EQ((*questions)[1].line, 4);
}

TEST(ChoiceLinesTest, NamesWhatIsWrong) {
  const struct {
    const char *line, *expected;
  } kBad[] = {
      {R"({"context": "a", "choices": ["b"], "answer": })", "column 46"},
      {R"(["context"])", "is [\"context\"], not an object {\"context\": "},
      {R"({"choices": ["b"], "answer": 0})", "has no member \"context\""},
      {R"({"context": 3, "choices": ["b"], "answer": 0})", "\"context\" is 3, not a text"},
      {R"({"context": "a", "answer": 0})", "has no member \"choices\""},
      {R"({"context": "a", "choices": [], "answer": 0})", "\"choices\" is [], not a list"},
      {R"({"context": "a", "choices": ["b", 1], "answer": 0})", "[\"b\",1], not a list"},
      {R"({"context": "a", "choices": ["b"]})", "has no member \"answer\""},
      {R"({"context": "a", "choices": ["b", "c"], "answer": 2})",
       "\"answer\" is 2, and the 2 choices are numbered from 0 to 1"},
      {R"({"context": "a", "choices": ["b", "c"], "answer": -1})", "\"answer\" is -1, and"},
      {R"({"context": "a", "choices": ["b", "c"], "answer": 0.5})", "\"answer\" is 0.5, and"},
      {R"({"context": "a", "choices": ["b", "c"], "answer": "d"})",
       "\"answer\" is \"d\", which is none of the choices"},
  };
  for (const auto& bad : kBad) {
    const absl::Status status =
        ParseChoiceLines(absl::StrCat(kGood, "\n", bad.line, "\n"), "q.jsonl").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message().find("q.jsonl, line 2: "), 0u) << status;
    EXPECT_NE(status.message().find(bad.expected), absl::string_view::npos) << status;
  }
  EXPECT_EQ(
      ParseChoiceLines(" \n", "q.jsonl").status().message().find("q.jsonl: holds no questions"),
      0u);
}

TEST(ChoiceLinesTest, AreToldFromDocuments) {
  EXPECT_TRUE(LooksLikeChoiceLines(absl::StrCat("\n", kGood, "\n")));
  EXPECT_TRUE(LooksLikeChoiceLines(R"({"choices": ["cut o)"));
  EXPECT_FALSE(LooksLikeChoiceLines(R"({"text": "a list of \"choices\""})"));
  EXPECT_FALSE(LooksLikeChoiceLines("The \"choices\" are few."));
  EXPECT_FALSE(LooksLikeChoiceLines(""));
}

}  // namespace
}  // namespace strake
