// The two halves of a transformer layer, tested alone with the same contract.

#include "core/ops/copy/copy.h"
#include "core/ops/residual_add/residual_add.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/attention_block.h"
#include "models/families/family.h"
#include "models/families/gpt2.h"
#include "models/families/llama.h"
#include "models/feature_models.h"
#include "models/initialize.h"
#include "models/mlp_block.h"
#include "models/rope_tables.h"

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

ModelConfig TinyConfig(const ModelFamily* family) {
  ModelConfig c = family->new_config();
  c.vocab_size = 5;
  c.max_positions = kSeqLen;
  c.hidden_size = kHidden;
  c.num_layers = 1;
  c.num_heads = 3;
  c.num_kv_heads = family == &kGpt2Family ? 3 : 1;
  c.head_dim = 2;
  c.intermediate_size = 7;
  c.initializer_range = 0.5;
  return c;
}

// A block of the first layer in c128: a stream from a stream, and dx from dy (c128
// [kTokens, kHidden] each, dy replaced by dx).
struct AttentionCase {
  AttentionCase(const ModelConfig& config, ParameterArena* arena)
      : block(config, 0, TensorParallel(), arena), tables(config, kSeqLen) {}
  absl::StatusOr<ResidualStream> Forward(const Context& ctx, const ResidualStream& stream) {
    return block.Forward(ctx, stream, kSeqLen, tables.ForLayer(ctx, 0), &saved);
  }
  absl::Status Backward(const Context& ctx, const Tensor& dy) {
    return block.Backward(ctx, tables.ForLayer(ctx, 0), dy, dy, &saved);
  }
  AttentionBlock block;
  AttentionBlockSaved saved;
  RopeTables tables;
};

struct MlpCase {
  MlpCase(const ModelConfig& config, ParameterArena* arena)
      : block(config, 0, TensorParallel(), arena) {}
  absl::StatusOr<ResidualStream> Forward(const Context& ctx, const ResidualStream& stream) {
    return block.Forward(ctx, stream, &saved);
  }
  absl::Status Backward(const Context& ctx, const Tensor& dy) {
    return block.Backward(ctx, dy, dy, &saved);
  }
  MlpBlock block;
  MlpBlockSaved saved;
};

// The stream after a block with inputs x and residual; x does not change.
template <typename Case>
Tensor Stream(Case& block, const Context& ctx, const Tensor& x, const Tensor& residual) {
  const Tensor sum = ctx.arena().Allocate(x.dtype(), x.shape());
  CHECK(Copy(ctx, x, sum).ok());
  const auto out = block.Forward(ctx, {.x = sum, .residual = residual});
  CHECK(out.ok()) << out.status();
  EXPECT_EQ(out->residual.raw(), sum.raw());
  CHECK(ResidualAddForward(ctx, out->x, out->residual, out->x).ok());
  return out->x;
}

// With and without a residual, as before the first block.
template <typename Case>
void CheckGradients(const ModelConfig& config, bool with_residual) {
  ParameterArena arena;
  Case block(config, &arena);
  ASSERT_TRUE(arena.Allocate(DType::kC128, true).ok());
  ThreadTeam team(1);
  ASSERT_TRUE(InitializeParameters(1, team, &arena).ok());
  TestContext ctx;
  TestTensor x(DType::kC128, {kTokens, kHidden}), weights(DType::kC128, {kTokens, kHidden}),
      dy(DType::kC128, {kTokens, kHidden});
  FillNormal(x, 2);
  FillNormal(weights, 3);
  FillNormal(dy, 3);
  TestTensor before(DType::kC128, {kTokens, kHidden});
  FillNormal(before, 4);
  const Tensor residual = with_residual ? before.tensor() : Tensor();
  const auto loss = [&] {
    const ActivationScope scope(ctx.context().arena());
    return WeightedSum(Stream(block, ctx, x, residual), weights);
  };
  Stream(block, ctx, x, residual);
  ASSERT_TRUE(block.Backward(ctx, dy).ok());

  TestTensor dx(DType::kF64, {kTokens, kHidden});
  ComplexStepGradient(x, loss, dx);
  EXPECT_LT(RelativeError(dy, dx), 1e-13);
  // More than the residual's part.
  EXPECT_GT(RelativeError(dx, weights), 0.1);
  for (const ParameterRecord& record : arena.records()) {
    TestTensor expected(DType::kF64, record.shape());
    ComplexStepGradient(record.parameter.value, loss, expected);
    EXPECT_GT(MaxAbs(expected), 1e-3) << record.name();
    EXPECT_LT(RelativeError(record.parameter.grad, expected), 1e-13) << record.name();
  }
}

template <typename Case>
void CheckGradients(const ModelConfig& config) {
  for (const bool with_residual : {false, true}) CheckGradients<Case>(config, with_residual);
}

// Whole models show parallel residuals, in which the halves depend on each other.
template <typename Case>
void CheckFeatures() {
  for (ModelConfig config : testing::FeatureModels(TinyConfig(&kLlamaFamily))) {
    config.parallel_residual = false;
    CheckGradients<Case>(config);
  }
}

TEST(AttentionBlockTest, GradientsByComplexStepGpt2) {
  CheckGradients<AttentionCase>(TinyConfig(&kGpt2Family));
}
TEST(AttentionBlockTest, GradientsByComplexStepLlama) {
  CheckGradients<AttentionCase>(TinyConfig(&kLlamaFamily));
}
TEST(AttentionBlockTest, GradientsByComplexStepOfFeatures) { CheckFeatures<AttentionCase>(); }
TEST(MlpBlockTest, GradientsByComplexStepGpt2) {
  CheckGradients<MlpCase>(TinyConfig(&kGpt2Family));
}
TEST(MlpBlockTest, GradientsByComplexStepLlama) {
  CheckGradients<MlpCase>(TinyConfig(&kLlamaFamily));
}
TEST(MlpBlockTest, GradientsByComplexStepOfFeatures) { CheckFeatures<MlpCase>(); }

}  // namespace
}  // namespace strake
