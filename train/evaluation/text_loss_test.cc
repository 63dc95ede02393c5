#include "train/evaluation/text_loss.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "core/testing/test_context.h"
#include "gtest/gtest.h"
#include "train/evaluation/evaluation_model.h"

namespace strake {
namespace {

using testing::EvaluationModel;
using testing::SomeIds;
using testing::TestContext;

// How many ids stand before each predicted one in its window.
std::map<int64_t, int64_t> Contexts(int64_t num_ids, int64_t seq_len, int64_t stride) {
  std::map<int64_t, int64_t> contexts;
  for (const TextWindow& window : TextWindows(num_ids, seq_len, stride)) {
    EXPECT_LE(window.begin + window.sequence.num_ids, num_ids);
    for (int64_t i = window.sequence.first; i < window.sequence.num_ids; ++i) {
      const bool is_new = contexts.emplace(window.begin + i, i).second;
      EXPECT_TRUE(is_new) << "id " << window.begin + i << " is predicted twice";
    }
  }
  return contexts;
}

TEST(TextWindowsTest, BlocksPredictEachTokenButTheFirst) {
  for (int64_t seq_len = 1; seq_len <= 6; ++seq_len) {
    for (int64_t num_ids = 0; num_ids <= 20; ++num_ids) {
      std::map<int64_t, int64_t> expected;
      for (int64_t i = 1; i < num_ids; ++i) expected[i] = (i - 1) % seq_len + 1;
      EXPECT_EQ(Contexts(num_ids, seq_len, 0), expected) << num_ids << " by " << seq_len;
    }
  }
}

TEST(TextWindowsTest, AStridePredictsEachTokenFromAtLeastTheRestOfAWindow) {
  for (int64_t seq_len = 2; seq_len <= 6; ++seq_len) {
    for (int64_t stride = 1; stride < seq_len; ++stride) {
      for (int64_t num_ids = 0; num_ids <= 20; ++num_ids) {
        const std::map<int64_t, int64_t> contexts = Contexts(num_ids, seq_len, stride);
        EXPECT_EQ(contexts.size(), std::max<int64_t>(0, num_ids - 1));
        for (const auto& [id, context] : contexts) {
          EXPECT_GE(context, std::min(id, seq_len - stride));
          EXPECT_LT(context, seq_len);
        }
      }
    }
  }
}

// The windows of 10 ids by 4 and 2, by hand.
TEST(TextWindowsTest, AStrideOfHalfAWindow) {
  const std::vector<TextWindow> windows = TextWindows(9, 4, 2);
  ASSERT_EQ(windows.size(), 4u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(windows[i].begin, 2 * i);
  EXPECT_EQ(windows[0].sequence.first, 1);
  EXPECT_EQ(windows[1].sequence.first, 2);
  EXPECT_EQ(windows[3].sequence.num_ids, 3);
  EXPECT_EQ(windows[3].sequence.first, 2);
}

absl::StatusOr<TextLoss> Evaluate(const EvaluationModel& model, const std::vector<int32_t>& ids,
                                  int64_t seq_len, int64_t stride, int64_t pass_tokens) {
  const TestContext ctx(OpSet::kReference, 1);
  const Mesh mesh = Mesh::SingleRank();
  SequenceScorer scorer(ctx, model, mesh, {.pass_tokens = pass_tokens});
  return EvaluateText(
      scorer, ids.size(),
      [&](int64_t begin, int64_t count, int32_t* to) {
        std::copy_n(ids.begin() + begin, count, to);
        return absl::OkStatus();
      },
      seq_len, stride);
}

TEST(EvaluateTextTest, AWeightlessModelHasThePerplexityOfItsVocabulary) {
  const EvaluationModel model(/*zero=*/true);
  auto result = Evaluate(model, SomeIds(100), 7, 0, 30);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->tokens, 99);
  EXPECT_NEAR(result->loss(), std::log(testing::kVocab), 1e-12);
  EXPECT_NEAR(result->perplexity(), testing::kVocab, 1e-10);
  EXPECT_FALSE(result->bits_per_byte().has_value());
  result->bytes = 250;
  EXPECT_NEAR(*result->bits_per_byte(), 99 * std::log2(testing::kVocab) / 250, 1e-12);
}

TEST(EvaluateTextTest, EqualsEachTokenFromItsOwnContext) {
  const EvaluationModel model;
  const std::vector<int32_t> ids = SomeIds(60);
  for (const int64_t stride : {0, 1, 3, 7}) {
    double nats = 0;
    const std::map<int64_t, int64_t> contexts = Contexts(ids.size(), 8, stride);
    for (const auto& [id, context] : contexts) {
      nats += model.LossOf({ids.begin() + id - context, ids.begin() + id + 1}, context);
    }
    for (const int64_t pass_tokens : {1, 20, 500}) {
      const auto result = Evaluate(model, ids, 8, stride, pass_tokens);
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->tokens, static_cast<int64_t>(contexts.size()));
      EXPECT_NEAR(result->nats, nats, 1e-12 * nats) << stride << ", " << pass_tokens;
    }
  }
}

TEST(TextLossTest, SumsTexts) {
  TextLoss all = {.nats = 3, .tokens = 2, .bytes = 10};
  all += {.nats = 1, .tokens = 6, .bytes = 4};
  EXPECT_EQ(all.loss(), 0.5);
  EXPECT_DOUBLE_EQ(*all.bits_per_byte(), 4 / std::log(2.0) / 14);
  all += {.nats = 1, .tokens = 1, .bytes = {}};
  EXPECT_FALSE(all.bits_per_byte().has_value());
}

}  // namespace
}  // namespace strake
