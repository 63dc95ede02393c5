#include "models/non_finite.h"

#include <cmath>

#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/initialize.h"

namespace strake {
namespace {

using testing::TestContext;
using testing::TestTensor;

class NonFiniteTest : public ::testing::Test {
 protected:
  NonFiniteTest()
      : config_(*ModelPreset("llama-tiny")),
        model_(config_, 4, &arena_),
        tokens_(DType::kI32, {4}) {
    CHECK(arena_.Allocate(DType::kF32, true).ok());
    ThreadTeam team(1);
    InitializeParameters(1, team, &arena_);
    testing::FillTokens(tokens_, 1, config_.vocab_size);
    CHECK(model_.Forward(ctx_, tokens_, tokens_, 4, &saved_).ok());
  }

  TestContext ctx_;
  ModelConfig config_;
  ParameterArena arena_;
  Transformer model_;
  TestTensor tokens_;
  TransformerSaved saved_;
};

TEST_F(NonFiniteTest, NamesTheFirstInExecutionOrder) {
  EXPECT_EQ(FirstNonFinite(arena_, saved_), "none");
  saved_.logits.data<float>()[5] = NAN;
  EXPECT_EQ(FirstNonFinite(arena_, saved_), "logits, element 5 of f32[4, 256] (nan)");
  saved_.mlp[2].up.data<float>()[1] = INFINITY;
  EXPECT_EQ(FirstNonFinite(arena_, saved_), "layer 2 mlp up, element 1 of f32[4, 768] (inf)");
  saved_.attention[1].qkv.data<float>()[0] = -INFINITY;
  EXPECT_EQ(FirstNonFinite(arena_, saved_), "layer 1 qkv, element 0 of f32[4, 256] (-inf)");
  arena_.parameters()[0].value.data<float>()[3] = NAN;
  EXPECT_EQ(FirstNonFinite(arena_, saved_),
            "weight model.embed_tokens.weight, element 3 of f32[256, 128] (nan)");
}

TEST_F(NonFiniteTest, GradientsInTheOrderOfTheBackwardPass) {
  EXPECT_EQ(FirstNonFiniteGradient(arena_), "none");
  arena_.parameters().front().grad.data<float>()[0] = NAN;
  arena_.parameters().back().grad.data<float>()[2] = NAN;
  EXPECT_EQ(FirstNonFiniteGradient(arena_),
            "the gradient of model.norm.weight, element 2 of f32[128] (nan)");
}

}  // namespace
}  // namespace strake
