// Tests every check case: the dry run of an op records a call, which becomes a check. The check
// passes with each set of kernels, on the CPU and on a GPU, and fails if the op is wrong.
#include "core/ops/check/check_cases.h"

#include <cstdint>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "core/base/exact_sum.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/device/cuda_context.h"
#include "core/memory/activation_arena.h"
#include "core/memory/device_memory.h"
#include "core/ops/activation/activation.h"
#include "core/ops/adamw/adamw.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/attention/partial_attention.h"
#include "core/ops/bias_add/bias_add.h"
#include "core/ops/cast/cast.h"
#include "core/ops/check/run_check.h"
#include "core/ops/clip_scale/clip_scale.h"
#include "core/ops/copy/copy.h"
#include "core/ops/documents.h"
#include "core/ops/embedding/embedding.h"
#include "core/ops/embedding/position_embedding.h"
#include "core/ops/gated_activation/gated_activation.h"
#include "core/ops/matmul/matmul.h"
#include "core/ops/norm/layer_norm.h"
#include "core/ops/norm/rms_norm.h"
#include "core/ops/qk_norm/qk_norm.h"
#include "core/ops/residual_add/residual_add.h"
#include "core/ops/rope/rope.h"
#include "core/ops/scale/scale.h"
#include "core/ops/softcap/softcap.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "core/ops/squared_norm/squared_norm.h"
#include "core/ops/sum/sum.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

// N tokens, C features; a slice of V entries of a vocabulary of 37.
constexpr int64_t kN = 24, kC = 40, kV = 24, kVocab = 37;

// Calls every op in a dry run, in both passes and with each of its options.
class DryRun {
 public:
  DryRun(DType dtype, Device device)
      : dtype_(dtype),
        device_(device),
        arena_(ActivationArena::DryRun(device)),
        ctx_(&team_, &arena_) {
    ctx_.set_recorder(&recorder_);
    Linear();
    Norms();
    QkNorms();
    Elementwise();
    Attention();
    PartOfAttention();
    Vocabulary();
    Optimizer();
  }

  const std::vector<OpCall>& calls() const { return recorder_.calls(); }

 private:
  Tensor T(const Shape& shape) const { return Tensor(nullptr, dtype_, shape, device_); }
  Tensor Sum(const Shape& shape) const {
    return Tensor(nullptr, AccumulationDType(dtype_), shape, device_);
  }
  Tensor F64(const Shape& shape) const { return Tensor(nullptr, DType::kF64, shape, device_); }
  Tensor Ids() const { return Tensor(nullptr, DType::kI32, {kN}, device_); }
  static void Expect(const absl::Status& status) { EXPECT_EQ(status, absl::OkStatus()); }

  void Linear() {
    const Tensor x = T({kN, kC}), w = T({kC, 2 * kC}), wt = T({2 * kC, kC}), y = T({kN, 2 * kC});
    Expect(Matmul(ctx_, x, w, {}, y));
    Expect(Matmul(ctx_, x, wt, {.transpose_b = true}, y));
    Expect(Matmul(ctx_, x, w, {.bias = T({2 * kC})}, y));
    Expect(Matmul(ctx_, x, w, {.bias = T({2 * kC}), .gelu_input = y}, T({kN, 2 * kC})));
    Expect(Matmul(ctx_, x, w, {.gelu_grad_input = y}, T({kN, 2 * kC})));
    for (const bool accumulate : {false, true}) {
      MatmulOptions options = {.transpose_a = true, .accumulate = accumulate};
      Expect(Matmul(ctx_, x, y, options, Sum({kC, 2 * kC})));
      options.b_sums = Sum({2 * kC});
      Expect(Matmul(ctx_, x, y, options, Sum({kC, 2 * kC})));
      std::swap(options.a_sums, options.b_sums);
      Expect(Matmul(ctx_, y, x, options, Sum({2 * kC, kC})));
    }
    Expect(BiasAddForward(ctx_, y, T({2 * kC}), y));
    Expect(BiasAddBackward(ctx_, y, Sum({2 * kC})));
  }

  void Norms() {
    const Tensor x = T({kN, kC}), w = T({kC}), row = Sum({kN}), dw = Sum({kC});
    for (const Tensor& residual : {Tensor(), x}) {
      for (const double offset : {0, 1}) {
        Expect(RmsNormForward(ctx_, x, residual, w, 1e-5, offset, residual, x, row));
      }
      Expect(LayerNormForward(ctx_,
                              {.x = x,
                               .residual = residual,
                               .weight = w,
                               .bias = w,
                               .sum = residual,
                               .y = x,
                               .mean = row,
                               .rstd = row},
                              1e-5));
    }
    for (const bool accumulate : {false, true}) {
      for (const double offset : {0, 1}) {
        Expect(RmsNormBackward(ctx_, x, x, w, offset, row, accumulate, x, dw));
        Expect(RmsNormBackward(ctx_, x, x, w, offset, row, accumulate, /*dx=*/{}, dw));
      }
      Expect(LayerNormBackward(ctx_,
                               {.dy = x,
                                .x = x,
                                .weight = w,
                                .mean = row,
                                .rstd = row,
                                .dx = x,
                                .dweight = dw,
                                .dbias = dw},
                               accumulate));
      Expect(LayerNormBackward(
          ctx_,
          {.dy = x, .x = x, .weight = w, .mean = row, .rstd = row, .dweight = dw, .dbias = dw},
          accumulate));
    }
  }

  void QkNorms() {
    const Tensor qkv = T({kN, 8 * 8}), raw = T({kN, 6 * 8});
    const QkNormHeads heads = {QkNormKind::kPerHead, 4, 2, 8};
    const QkNormWeights weights = {T({8}), T({8})};
    Expect(QkNormForward(ctx_, heads, weights, 1e-5, {}, qkv, {}, Sum({kN, 6})));
    Expect(QkNormForward(ctx_, heads, weights, 1e-5, {}, qkv, raw, Sum({kN, 6})));
    Expect(QkNormBackward(ctx_, heads, weights, raw, Sum({kN, 6}), {}, qkv, Sum({8}), Sum({8})));
    Expect(QkNormBackwardWeight(ctx_, heads, weights, raw, Sum({kN, 6}), raw, Sum({8}), Sum({8})));
    for (const int num_ranks : {1, 2}) {
      const QkNormHeads whole = {QkNormKind::kWhole, 4, 2, 8, num_ranks};
      const QkNormWeights wide = {T({4 * 8}), T({2 * 8}), 1};
      const Tensor rstd = Sum({kN, 2}), sums = num_ranks == 1 ? Tensor() : Sum({kN, 2});
      Expect(QkNormForward(ctx_, whole, wide, 1e-5, sums, qkv, raw, rstd));
      Expect(QkNormBackward(ctx_, whole, wide, raw, rstd, sums, qkv, Sum({4 * 8}), Sum({2 * 8})));
      Expect(QkNormForwardSums(ctx_, whole, qkv, rstd));
      Expect(QkNormBackwardSums(ctx_, whole, wide, raw, qkv, rstd));
    }
  }

  void Elementwise() {
    const Tensor x = T({kN, kC}), gate_up = T({kN, 2 * kC});
    for (const ActivationKind kind : kActivationKinds) {
      Expect(ActivationForward(ctx_, kind, x, x));
      Expect(ActivationBackward(ctx_, kind, x, x, x));
      Expect(GatedActivationForward(ctx_, kind, gate_up, x));
      Expect(GatedActivationBackward(ctx_, kind, x, gate_up, gate_up));
    }
    Expect(ResidualAddForward(ctx_, x, x, x));
    Expect(Scale(ctx_, 0.3, x, x));
    Expect(Softcap(ctx_, 2, x, x));
    Expect(Copy(ctx_, x, x));
    Expect(CopyRows(ctx_, Sum({5 * 7 + 3}), 7, 6, 3, Sum({6 * 3}), 3));
    Expect(CopyRows(ctx_, Sum({6 * 3}), 3, 6, 3, Sum({5 * 7 + 3}), 7));
    Expect(SetZero(ctx_, x));
    const Tensor bf16(nullptr, DType::kBf16, {1000}, device_);
    const Tensor f32(nullptr, DType::kF32, {1000}, device_);
    Expect(Cast(ctx_, f32, bf16));
    Expect(Cast(ctx_, bf16, f32));
    Expect(CastAdd(ctx_, bf16, f32));
  }

  void Attention() {
    const Tensor qkv = T({kN, 8 * 8}), y = T({kN, 4 * 8}), lse = Sum({2, 4, kN / 2});
    for (const bool interleaved : {false, true}) {
      const RopeHeads heads = {.num_heads = 6, .head_dim = 8, .interleaved = interleaved};
      for (const int64_t rotary_dim : {8, 4}) {
        Expect(RopeForward(ctx_, F64({kN, rotary_dim}), heads, kN / 2, 3, qkv));
        Expect(RopeBackward(ctx_, F64({kN, rotary_dim}), heads, kN / 2, qkv));
        Expect(RopeForward(ctx_, F64({kN, rotary_dim}), heads, kN / 2, 0, qkv, Ids()));
        Expect(RopeBackward(ctx_, F64({kN, rotary_dim}), heads, kN / 2, qkv, Ids()));
      }
    }
    for (const AttentionShape& shape : {AttentionShape{2, kN / 2, 4, 2, 8},
                                        {2, kN / 2, 4, 2, 8, /*window=*/5},
                                        {2, kN / 2, 4, 2, 8, 0, /*score_scale=*/0.5},
                                        {2, kN / 2, 4, 2, 8, 0, 0, /*score_softcap=*/1.5},
                                        {2, kN / 2, 4, 2, 8, 3, 0.5, 2}}) {
      Expect(CausalAttentionForward(ctx_, qkv, shape, y, lse));
      Expect(CausalAttentionBackward(ctx_, y, qkv, y, lse, shape, qkv));
    }
    const std::vector<int64_t> lengths = {5, 4, 3, 1, 11};
    const Documents documents = {Ids(), lengths};
    for (const int64_t window : {0, 3}) {
      const AttentionShape shape = {2, kN / 2, 4, 2, 8, window};
      Expect(CausalAttentionForward(ctx_, qkv, shape, y, lse, documents));
      Expect(CausalAttentionBackward(ctx_, y, qkv, y, lse, shape, qkv, documents));
    }
  }

  // Queries in the second half of a rank's rows, against keys before them, their own, and keys of
  // which a window and documents leave some queries none.
  void PartOfAttention() {
    constexpr int64_t kR = kN / 2, kS = 10;
    const Tensor qkv = T({kN, 8 * 8}), kv = T({2 * kS, 4 * 8}), y = T({kN, 4 * 8});
    const Tensor sums = Sum({kN, 4 * 8}), dkv = Sum({2 * kS, 4 * 8}), lse = Sum({2, 4, kR});
    const std::vector<int64_t> lengths = {5, 13, 6, 12, 12};  // of sequences of 24 tokens
    for (const AttentionShape& shape : {AttentionShape{2, kR, 4, 2, 8},
                                        {2, kR, 4, 2, 8, /*window=*/5},
                                        {2, kR, 4, 2, 8, 9, 0.5, 2}}) {
      for (const int64_t first_key : {12, 18}) {
        const PartialAttention part = {shape, kS, {6, 18, 6}, {3, first_key, 6}};
        for (const Documents& documents : {Documents(), Documents{Ids(), lengths}}) {
          for (const bool merge : {false, true}) {
            Expect(PartialAttentionForward(ctx_, qkv, kv, part, merge, sums, lse, documents));
          }
          Expect(PartialAttentionBackward(ctx_, y, qkv, kv, y, lse, part, sums, dkv, documents));
        }
      }
    }
  }

  void Vocabulary() {
    const Tensor x = T({kN, kC}), ids = Ids(), loss = Sum({kN});
    const Tensor whole = T({kN, 2 * kV}), slice_logits = T({kN, kV});
    const Tensor max(nullptr, SoftmaxMaxDType(dtype_), {kN}, device_);
    for (const int64_t begin : {int64_t{0}, kV}) {
      const VocabSlice slice = {.vocab_size = kVocab, .begin = begin};
      Expect(EmbeddingForward(ctx_, ids, slice, T({kV, kC}), x));
      Expect(EmbeddingBackward(ctx_, x, ids, slice, Sum({kV, kC})));
      Expect(SoftmaxSliceMax(ctx_, slice_logits, slice, max));
      Expect(SoftmaxSliceSums(ctx_, slice_logits, ids, slice, max, Sum({2, kN})));
      for (const double softcap : {0, 8}) {
        Expect(SoftmaxCrossEntropyBackward(ctx_, ids, loss, 0.5, softcap, slice, slice_logits));
      }
    }
    Expect(SoftmaxCrossEntropyFromSums(ctx_, ids, max, Sum({2, kN}), loss, loss));
    Expect(SoftmaxCrossEntropyForward(ctx_, whole, ids, kVocab, loss, loss));
    for (const double softcap : {0, 8}) {
      Expect(
          SoftmaxCrossEntropyForwardBackward(ctx_, ids, kVocab, 0.5, softcap, whole, loss, loss));
    }
    Expect(PositionEmbeddingForward(ctx_, T({kN, kC}), kN / 2, 5, x));
    Expect(PositionEmbeddingBackward(ctx_, x, kN / 2, 5, Sum({kN, kC})));
    Expect(PositionEmbeddingForward(ctx_, T({kN, kC}), kN / 2, 0, x, ids));
    Expect(PositionEmbeddingBackward(ctx_, x, kN / 2, 0, Sum({kN, kC}), ids));
    Expect(AddSum(ctx_, loss, F64({1})));
  }

  void Optimizer() {
    const Tensor g = Sum({1000}), rounded = dtype_ == DType::kBf16 ? T({1000}) : Tensor();
    const Tensor sum_of_squares(nullptr, DType::kI64, {kExactSumLimbs}, device_);
    Expect(SetZero(ctx_, sum_of_squares));
    Expect(SquaredNormForward(ctx_, g, sum_of_squares));
    Expect(SquaredNormBackward(ctx_, g, F64({1}), g));
    Expect(ClipScale(ctx_, sum_of_squares, 1, F64({2})));
    Expect(ClipScale(ctx_, sum_of_squares, 1, F64({2}), F64({1})));
    for (const bool weight_decay : {false, true}) {
      for (const Tensor& clip : {Tensor(), F64({2})}) {
        Expect(AdamWUpdate(ctx_,
                           {.scalars = Sum({kNumAdamWScalars}),
                            .clip = clip,
                            .grad = g,
                            .weight = g,
                            .exp_avg = g,
                            .exp_avg_sq = g,
                            .rounded = rounded},
                           weight_decay));
      }
    }
  }

  const DType dtype_;
  const Device device_;
  ThreadTeam team_{2};
  ActivationArena arena_;
  OpRecorder recorder_;
  Context ctx_;
};

class CheckCasesTest : public ::testing::TestWithParam<std::tuple<DType, Device>> {
 protected:
  void SetUp() override {
    machine_ = {.team = &team_, .device = std::get<1>(GetParam())};
    if (machine_.device == Device::kCpu) return;
    auto cuda = CudaContext::Create(0);
    ASSERT_TRUE(cuda.ok()) << cuda.status();
    cuda_ = std::move(*cuda);
    machine_.cuda = cuda_.get();
  }

  std::vector<OpCheck> Checks() const {
    const auto& [dtype, device] = GetParam();
    return ChecksOf(DryRun(dtype, device).calls());
  }

  std::vector<OpCheckResult> Run(const OpCheck& check) const {
    const auto results = CheckOp(check, /*seed=*/1, machine_);
    EXPECT_TRUE(results.ok()) << check.op << ": " << results.status();
    return results.ok() ? *results : std::vector<OpCheckResult>();
  }

 private:
  ThreadTeam team_{2};
  std::unique_ptr<CudaContext> cuda_;
  OpMachine machine_;
};

INSTANTIATE_TEST_SUITE_P(, CheckCasesTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBf16),
                                            ::testing::Values(Device::kCpu, Device::kCuda)));

// Sets the last element to a value that no result comes near.
absl::Status Spoil(const Tensor& x) {
  STRAKE_ASSIGN_OR_RETURN(const HostCopy host, HostCopy::Of(x));
  testing::SetElement(host, x.num_elements() - 1, 12345);
  return host.WriteBack();
}

TEST_P(CheckCasesTest, EveryOpFollowsItsDefinition) {
  const std::vector<OpCheck> checks = Checks();
  EXPECT_GT(checks.size(), 40u);
  for (const OpCheck& check : checks) {
    const std::vector<OpCheckResult> results = Run(check);
    EXPECT_FALSE(results.empty()) << check.op;
    for (const OpCheckResult& result : results) {
      EXPECT_TRUE(result.ok()) << check.op << ", " << result.tensor << ShapeString(result.shape)
                               << ": " << result.error << " above " << result.tolerance;
    }
  }
}

// Gives each written tensor, in turn, a wrong element.
TEST_P(CheckCasesTest, AWrongElementIsFound) {
  for (const OpCheck& check : Checks()) {
    for (size_t i = 0; i < check.tensors.size(); ++i) {
      if (check.tensors[i].role == OpRole::kInput) continue;
      OpCheck faulty = check;
      faulty.run = [&check, i](const Context& ctx, const Tensors& t) -> absl::Status {
        const absl::Status status = check.run(ctx, t);
        if (ctx.reference() || ctx.dry_run() || !status.ok()) return status;
        return Spoil(t[i]);
      };
      for (const OpCheckResult& result : Run(faulty)) {
        EXPECT_EQ(result.ok(), result.tensor != check.tensors[i].name)
            << check.op << ", " << result.tensor;
      }
    }
  }
}

}  // namespace
}  // namespace strake
