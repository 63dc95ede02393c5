#include "train/evaluation/choice_task.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/testing/test_context.h"
#include "gtest/gtest.h"
#include "train/evaluation/choice_scores.h"
#include "train/evaluation/evaluation_model.h"

namespace strake {
namespace {

using testing::EvaluationModel;
using testing::SomeIds;
using testing::TestContext;

// Bytes, except that "ab" is one token.
TextEncoder MergingEncoder() {
  return {.append =
              [](absl::string_view text, std::vector<int32_t>* ids) {
                for (size_t i = 0; i < text.size(); ++i) {
                  const bool merges = text.substr(i, 2) == "ab";
                  ids->push_back(merges ? 300 : static_cast<unsigned char>(text[i]));
                  i += merges;
                }
              },
          .start = 301};
}

absl::StatusOr<ChoiceTask> Tokenize(const TextEncoder& encoder, const std::string& context,
                                    const std::vector<std::string>& choices,
                                    const ChoiceTextOptions& options = {.max_inputs = 100}) {
  const std::vector<ChoiceQuestion> questions = {
      {.context = context, .choices = choices, .answer = 0, .line = 7}};
  return TokenizeChoices(questions, "q.jsonl", encoder, options);
}

std::vector<int32_t> Bytes(const std::string& text) { return ByteEncoder().Plain(text); }

ChoiceOption Only(const absl::StatusOr<ChoiceTask>& task) {
  EXPECT_TRUE(task.ok()) << task.status();
  return task.ok() ? task->examples.at(0).options.at(0) : ChoiceOption();
}

void ExpectOption(const ChoiceOption& option, const std::vector<int32_t>& ids, int64_t first,
                  double length) {
  EXPECT_EQ(option.ids, ids);
  EXPECT_EQ(option.first, first);
  EXPECT_EQ(option.length, length);
}

TEST(TokenizeChoicesTest, ABlankStandsBetweenContextAndChoice) {
  ExpectOption(Only(Tokenize(ByteEncoder(), "Yes", {"no"})), Bytes("Yes no"), 3, 2);
}

TEST(TokenizeChoicesTest, BlanksMoveToTheChoiceButNotIntoItsLength) {
  const ChoiceTextOptions plain = {.delimiter = "", .max_inputs = 100};
  ExpectOption(Only(Tokenize(ByteEncoder(), "Yes \n", {"no"}, plain)), Bytes("Yes \nno"), 3, 2);
  ExpectOption(Only(Tokenize(ByteEncoder(), "Yes\u3000\u00a0\u2003", {"no"}, plain)),
               Bytes("Yes\u3000\u00a0\u2003no"), 3, 2);
  // A character that is no white space, and ends with a byte of one.
  ExpectOption(Only(Tokenize(ByteEncoder(), "\u0120", {"no"}, plain)), Bytes("\u0120no"), 2, 2);
}

TEST(TokenizeChoicesTest, LengthsAreCharacters) {
  EXPECT_EQ(Only(Tokenize(ByteEncoder(), "a", {"Größe 😀"})).length, 7);
}

// "xab" is x and ab, and "xa" alone x and a: what follows two tokens is "c".
TEST(TokenizeChoicesTest, CutsWhereTheContextAloneEnds) {
  const ChoiceTextOptions plain = {.delimiter = "", .max_inputs = 100};
  ExpectOption(Only(Tokenize(MergingEncoder(), "xa", {"bc"}, plain)), {'x', 'a', 'c'}, 2, 2);
  EXPECT_EQ(Tokenize(MergingEncoder(), "xa", {"b"}, plain).status().message(),
            "q.jsonl, line 7: choice 0: it adds no token to the context; write a longer choice");
}

TEST(TokenizeChoicesTest, AnEmptyContextIsTheStart) {
  ExpectOption(Only(Tokenize(MergingEncoder(), "", {"c"})), {301, ' ', 'c'}, 1, 1);
  ExpectOption(Only(Tokenize(MergingEncoder(), " \n", {"c"}, {.delimiter = "", .max_inputs = 9})),
               {301, ' ', '\n', 'c'}, 1, 1);
  const absl::Status none = Tokenize(ByteEncoder(), "", {"c"}).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(none.message().find("q.jsonl, line 7: choice 0: the context is empty"),
            absl::string_view::npos);
}

TEST(TokenizeChoicesTest, APrefixStandsBeforeTextsThatDoNotBeginWithIt) {
  TextEncoder encoder = ByteEncoder();
  encoder.prefix = {7};
  encoder.start = 7;
  encoder.start_text = "<s>";
  std::vector<int32_t> ids = Bytes("a b");
  ids.insert(ids.begin(), 7);
  ExpectOption(Only(Tokenize(encoder, "a", {"b"})), ids, 2, 1);
  ExpectOption(Only(Tokenize(encoder, "<s>a", {"b"})), Bytes("<s>a b"), 4, 1);
}

TEST(TokenizeChoicesTest, LongContextsLoseTheirBeginning) {
  const auto task =
      Tokenize(ByteEncoder(), "0123456789", {"ab", "c"}, {.delimiter = "", .max_inputs = 5});
  ExpectOption(Only(task), Bytes("6789ab"), 4, 2);
  EXPECT_EQ(task->num_truncated, 2);
  const auto fits = Tokenize(ByteEncoder(), "0123", {"ab"}, {.delimiter = "", .max_inputs = 5});
  ExpectOption(Only(fits), Bytes("0123ab"), 4, 2);
  EXPECT_EQ(fits->num_truncated, 0);
  // The last token of the context is needed.
  ExpectOption(Only(Tokenize(ByteEncoder(), "0123", {"abcde"}, {.delimiter = "", .max_inputs = 5})),
               Bytes("3abcde"), 1, 5);
  EXPECT_EQ(Tokenize(ByteEncoder(), "0123", {"abcdef"}, {.delimiter = "", .max_inputs = 5})
                .status()
                .message(),
            "q.jsonl, line 7: choice 0: it has 6 tokens, and the model takes at most 5; write a "
            "shorter one");
}

// Options of given lengths.
ChoiceTask TaskOf(const std::vector<double>& lengths, const std::vector<int64_t>& answers) {
  ChoiceTask task;
  for (const int64_t answer : answers) {
    ChoiceExample& example = task.examples.emplace_back();
    example.answer = answer;
    for (const double length : lengths)
      example.options.push_back({.ids = {0, 1}, .length = length});
  }
  return task;
}

TEST(ScoresOfTest, CountsByTheSumAndByLength) {
  const ChoiceScores scores = ScoresOf(TaskOf({1, 4, 2}, {0, 1, 2, 1}),
                                       {{-1, -8, -3}, {-3, -4, -5}, {-3, -8, -3}, {-2, -2, -2}});
  EXPECT_EQ(scores.chosen, (std::vector<int64_t>{0, 0, 0, 0}));
  EXPECT_EQ(scores.chosen_norm, (std::vector<int64_t>{0, 1, 2, 1}));
  EXPECT_EQ(scores.acc, 0.25);
  EXPECT_EQ(scores.acc_norm, 1);
  // Of one 1 and three 0: squares add up to 3/4; by 3, by 4, the root.
  EXPECT_DOUBLE_EQ(scores.acc_stderr, std::sqrt(0.75 / 3 / 4));
  EXPECT_EQ(scores.acc_norm_stderr, 0);
}

TEST(ScoresOfTest, AnEmptyChoiceIsNeverTheLikeliestPerCharacter) {
  EXPECT_EQ(ScoresOf(TaskOf({0, 1}, {0}), {{-1, -5}}).chosen_norm[0], 1);
}

TEST(ScoreChoicesTest, EqualsEachChoiceAlone) {
  const EvaluationModel model;
  ChoiceTask task;
  for (int64_t e = 0; e < 9; ++e) {
    ChoiceExample& example = task.examples.emplace_back();
    example.answer = e % 3;
    for (int64_t o = 0; o < 4; ++o) {
      const int64_t size = 3 + (e * 4 + o) * 5 % 13;
      example.options.push_back({.ids = SomeIds(size, e * 7 + o),
                                 .first = size - 1 - (e + o) % 2,
                                 .length = static_cast<double>(1 + (e + 2 * o) % 5)});
    }
    example.options[3] = example.options[1];  // what is equal scores equally
  }
  const TestContext ctx(OpSet::kReference, 1);
  const Mesh mesh = Mesh::SingleRank();
  SequenceScorer scorer(ctx, model, mesh, {.pass_tokens = 50});
  const auto scores = ScoreChoices(scorer, task);
  ASSERT_TRUE(scores.ok()) << scores.status();
  int64_t right = 0, right_norm = 0;
  for (size_t e = 0; e < task.examples.size(); ++e) {
    const std::vector<ChoiceOption>& options = task.examples[e].options;
    double best = -std::numeric_limits<double>::infinity(), best_norm = best;
    int64_t chosen = -1, chosen_norm = -1;
    for (size_t o = 0; o < options.size(); ++o) {
      const double expected = -model.LossOf(options[o].ids, options[o].first);
      const double l = scores->log_likelihoods[e][o];
      EXPECT_NEAR(l, expected, 1e-12 * std::abs(expected));
      if (l > best) chosen = o, best = l;
      if (l / options[o].length > best_norm) chosen_norm = o, best_norm = l / options[o].length;
    }
    EXPECT_EQ(scores->log_likelihoods[e][3], scores->log_likelihoods[e][1]);
    EXPECT_EQ(scores->chosen[e], chosen);
    EXPECT_EQ(scores->chosen_norm[e], chosen_norm);
    right += chosen == task.examples[e].answer;
    right_norm += chosen_norm == task.examples[e].answer;
  }
  EXPECT_EQ(scores->acc, right / 9.0);
  EXPECT_EQ(scores->acc_norm, right_norm / 9.0);
}

}  // namespace
}  // namespace strake
