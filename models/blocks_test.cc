// The two halves of a transformer layer by themselves: their contract is the same.

#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/attention_block.h"
#include "models/initialize.h"
#include "models/mlp_block.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

constexpr int64_t kSeqLen = 4, kTokens = 8, kHidden = 6;

ModelConfig TinyConfig(ModelFamily family) {
  ModelConfig c;
  c.family = family;
  c.vocab_size = 5;
  c.max_positions = kSeqLen;
  c.hidden_size = kHidden;
  c.num_layers = 1;
  c.num_heads = 3;
  c.num_kv_heads = family == ModelFamily::kGpt2 ? 3 : 1;
  c.head_dim = 2;
  c.intermediate_size = 7;
  c.initializer_range = 0.5;
  return c;
}

// A block in c128: y from x, and dx from dy (c128 [kTokens, kHidden] each, dy replaced by dx).
struct AttentionCase {
  AttentionCase(const ModelConfig& config, ParameterArena* arena)
      : block(config, 0, TensorParallel(), arena) {
    if (config.family == ModelFamily::kGpt2) return;
    table = TensorBuffer(DType::kF64, {kSeqLen, config.head_dim});
    RopeTable(config.rope, table);
  }
  absl::StatusOr<Tensor> Forward(const Context& ctx, const Tensor& x) {
    return block.Forward(ctx, x, kSeqLen, table, &saved);
  }
  absl::Status Backward(const Context& ctx, const Tensor& dy) {
    return block.Backward(ctx, table, dy, &saved);
  }
  AttentionBlock block;
  AttentionBlockSaved saved;
  TensorBuffer table;
};

struct MlpCase {
  MlpCase(const ModelConfig& config, ParameterArena* arena)
      : block(config, 0, TensorParallel(), arena) {}
  absl::StatusOr<Tensor> Forward(const Context& ctx, const Tensor& x) {
    return block.Forward(ctx, x, &saved);
  }
  absl::Status Backward(const Context& ctx, const Tensor& dy) {
    return block.Backward(ctx, dy, &saved);
  }
  MlpBlock block;
  MlpBlockSaved saved;
};

template <typename Case>
void CheckGradients(ModelFamily family) {
  ParameterArena arena;
  Case block(TinyConfig(family), &arena);
  ASSERT_TRUE(arena.Allocate(DType::kC128, true).ok());
  ThreadTeam team(1);
  InitializeParameters(1, team, &arena);
  TestContext ctx;
  TestTensor x(DType::kC128, {kTokens, kHidden}), weights(DType::kC128, {kTokens, kHidden}),
      dy(DType::kC128, {kTokens, kHidden});
  FillNormal(x, 2);
  FillNormal(weights, 3);
  FillNormal(dy, 3);
  const auto loss = [&] {
    const ActivationScope scope(ctx.context().arena());
    return WeightedSum(*block.Forward(ctx, x), weights);
  };
  ASSERT_TRUE(block.Forward(ctx, x).ok());
  ASSERT_TRUE(block.Backward(ctx, dy).ok());

  TestTensor dx(DType::kF64, {kTokens, kHidden});
  ComplexStepGradient(x, loss, dx);
  EXPECT_LT(RelativeError(dy, dx), 1e-13);
  // Not the residual's part alone.
  EXPECT_GT(RelativeError(dx, weights), 0.1);
  for (const Parameter& parameter : arena.parameters()) {
    TestTensor expected(DType::kF64, parameter.shape);
    ComplexStepGradient(parameter.value, loss, expected);
    EXPECT_GT(MaxAbs(expected), 1e-3) << parameter.name();
    EXPECT_LT(RelativeError(parameter.grad, expected), 1e-13) << parameter.name();
  }
}

TEST(AttentionBlockTest, GradientsByComplexStepGpt2) {
  CheckGradients<AttentionCase>(ModelFamily::kGpt2);
}
TEST(AttentionBlockTest, GradientsByComplexStepLlama) {
  CheckGradients<AttentionCase>(ModelFamily::kLlama);
}
TEST(MlpBlockTest, GradientsByComplexStepGpt2) { CheckGradients<MlpCase>(ModelFamily::kGpt2); }
TEST(MlpBlockTest, GradientsByComplexStepLlama) { CheckGradients<MlpCase>(ModelFamily::kLlama); }

}  // namespace
}  // namespace strake
