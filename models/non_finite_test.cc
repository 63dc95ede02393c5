#include "models/non_finite.h"

#include <cmath>

#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/families/families.h"
#include "models/initialize.h"

namespace strake {
namespace {

using testing::TestContext;
using testing::TestTensor;

class NonFiniteTest : public ::testing::Test {
 protected:
  NonFiniteTest()
      : config_(*ModelPreset("llama-tiny")),
        model_(config_, 4, &arena_, TensorParallel(), {.max_bytes = 0, .min_rows = 3}),
        tokens_(DType::kI32, {4}) {
    CHECK(arena_.Allocate(DType::kF32, true).ok());
    ThreadTeam team(1);
    CHECK(InitializeParameters(1, team, &arena_).ok());
    testing::FillTokens(tokens_, 1, config_.vocab_size);
    CHECK(model_.Forward(ctx_, tokens_, tokens_, 4, &saved_).ok());
  }
  std::string First() const { return FirstNonFinite(ctx_, model_, {&arena_}, saved_); }

  TestContext ctx_;
  ModelConfig config_;
  ParameterArena arena_;
  Transformer model_;
  TestTensor tokens_;
  TransformerSaved saved_;
};

TEST_F(NonFiniteTest, NamesTheFirstInExecutionOrder) {
  EXPECT_EQ(First(), "none");
  EXPECT_EQ(FirstNonFiniteWeight({&arena_}), "none");
  // All logits of the last token, alone in its chunk, overflow; those of the other tokens do not.
  const Tensor& h = saved_.head.h;
  testing::FillConstant(h.Rows(0, 3), 0);
  testing::FillConstant(h.Rows(3, 4), 1e38);
  testing::FillConstant(arena_.records()[0].parameter.value, 1e3);  // the tied head
  EXPECT_EQ(First(), "logits, element 768 of f32[4, 256] (inf)");
  saved_.mlp[2].up.data<float>()[1] = INFINITY;
  EXPECT_EQ(First(), "layer 2 mlp up, element 1 of f32[4, 768] (inf)");
  saved_.attention[1].qkv.data<float>()[0] = -INFINITY;
  EXPECT_EQ(First(), "layer 1 qkv, element 0 of f32[4, 256] (-inf)");
  arena_.records()[0].parameter.value.data<float>()[3] = NAN;
  EXPECT_EQ(First(), "weight model.embed_tokens.weight, element 3 of f32[256, 128] (nan)");
  EXPECT_EQ(FirstNonFiniteWeight({&arena_}),
            "weight model.embed_tokens.weight, element 3 of f32[256, 128] (nan)");
}

TEST_F(NonFiniteTest, GradientsInTheOrderOfTheBackwardPass) {
  const Tensor& grads = arena_.grads();
  EXPECT_EQ(FirstNonFiniteGradient(arena_, 0, grads), "none");
  arena_.records().front().parameter.grad.data<float>()[1] = NAN;
  arena_.records().back().parameter.grad.data<float>()[2] = NAN;
  EXPECT_EQ(FirstNonFiniteGradient(arena_, 0, grads),
            "the gradient of model.norm.weight, element 2 of f32[128] (nan)");

  // The arrays of ranks that hold a part: a part may begin and end inside a parameter, and be
  // empty.
  const int64_t n = arena_.num_elements(), last = arena_.records().back().offset + 2;
  const auto within = [&](int64_t begin, int64_t end) {
    return FirstNonFiniteGradient(arena_, begin, grads.Rows(begin, end));
  };
  EXPECT_EQ(within(last, n), "the gradient of model.norm.weight, element 2 of f32[128] (nan)");
  EXPECT_EQ(within(last + 1, n), "none");
  EXPECT_EQ(within(1, last),
            "the gradient of model.embed_tokens.weight, element 1 of f32[256, 128] (nan)");
  EXPECT_EQ(within(2, last), "none");
  EXPECT_EQ(within(1, 1), "none");
}

TEST(NonFiniteF64Test, BeyondTheRangeOfF32) {
  ParameterArena arena;
  arena.Add({{"w", 3}}, {3}, true);
  ASSERT_TRUE(arena.Allocate(DType::kF64, true).ok());
  arena.grads().data<double>()[0] = 1e300;
  EXPECT_EQ(FirstNonFiniteGradient(arena, 0, arena.grads()), "none");
  arena.grads().data<double>()[1] = -INFINITY;
  EXPECT_EQ(FirstNonFiniteGradient(arena, 0, arena.grads()),
            "the gradient of w, element 1 of f64[3] (-inf)");
}

}  // namespace
}  // namespace strake
