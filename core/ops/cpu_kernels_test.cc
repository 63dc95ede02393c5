// Tests of ops whose GPU tests have another form: on the CPU in f32 and bf16, with each set of
// vector instructions that the machine has. The other ops are tested in *_cuda_test.cc, through
// ExpectFollowsF64().
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/attention/cached_attention.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/documents.h"
#include "core/ops/matmul/matmul.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "core/testing/attention_tolerance.h"
#include "core/testing/cuda_parity.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::AttentionTolerance;
using testing::ExpectCpuFollowsF64;
using testing::F32SumTolerance;
using testing::ParityOperand;
using testing::TestTensor;
using testing::UnitRoundoff;
using Tensors = std::vector<Tensor>;

class CpuKernelsTest : public ::testing::TestWithParam<DType> {
 protected:
  DType dtype() const { return GetParam(); }
  ParityOperand In(const Shape& shape) const { return {shape, dtype()}; }
  // An output that is stored `num_stores` times on its way.
  ParityOperand Out(const Shape& shape, double f32_tolerance, int num_stores = 1) const {
    return {shape, dtype(), f32_tolerance + num_stores * UnitRoundoff(dtype())};
  }
};

// One row, and none; many rows of a ragged size, and of whole vectors; several blocks of the
// kernel.
constexpr struct {
  int64_t m, n, k;
} kProducts[] = {{1, 67, 129}, {1, 64, 3}, {9, 33, 65},    {64, 48, 32},
                 {5, 7, 0},    {0, 8, 4},  {270, 35, 260}, {7, 530, 40}};

TEST_P(CpuKernelsTest, Matmul) {
  for (const auto& [m, n, k] : kProducts) {
    for (const int transposed : {0, 1, 2}) {
      const bool ta = transposed == 1, tb = transposed == 2;
      SCOPED_TRACE(::testing::Message() << m << " x " << n << " x " << k << ", " << transposed);
      const ParityOperand a = In(ta ? Shape{k, m} : Shape{m, k}),
                          b = In(tb ? Shape{n, k} : Shape{k, n});
      // A product of no terms leaves 0, or what was there before.
      const double sum = F32SumTolerance(k);
      if (k > 0) {
        ExpectCpuFollowsF64({a, b, Out({m, n}, sum)}, [=](const Context& ctx, const Tensors& t) {
          return Matmul(ctx, t[0], t[1], {.transpose_a = ta, .transpose_b = tb}, t[2]);
        });
      }
      ExpectCpuFollowsF64(
          {a, b, {{m, n}, DType::kF32, sum}}, [=](const Context& ctx, const Tensors& t) {
            return Matmul(ctx, t[0], t[1],
                          {.transpose_a = ta, .transpose_b = tb, .accumulate = true}, t[2]);
          });
    }
  }
}

// GELU's derivative is at most 1.13, which is the factor that an error of u grows by; its own
// formula adds some 25 roundings. u and c are stored, and in a wide product u once more.
TEST_P(CpuKernelsTest, MatmulWithBiasAndGelu) {
  for (const auto& [m, n, k] : kProducts) {
    SCOPED_TRACE(::testing::Message() << m << " x " << n << " x " << k);
    const ParityOperand a = In({m, k}), b = In({k, n}), bias = In({n});
    const ParityOperand u = Out({m, n}, F32SumTolerance(k), 2);
    const ParityOperand c = Out({m, n}, 1.13 * F32SumTolerance(k, 33), 4);
    ExpectCpuFollowsF64({a, b, bias, u}, [](const Context& ctx, const Tensors& t) {
      return Matmul(ctx, t[0], t[1], {.bias = t[2]}, t[3]);
    });
    ExpectCpuFollowsF64({a, b, bias, u, c}, [](const Context& ctx, const Tensors& t) {
      return Matmul(ctx, t[0], t[1], {.bias = t[2], .gelu_input = t[3]}, t[4]);
    });
    if (k == 0) continue;
    ExpectCpuFollowsF64({a, b, In({m, n}), c}, [](const Context& ctx, const Tensors& t) {
      return Matmul(ctx, t[0], t[1], {.gelu_grad_input = t[2]}, t[3]);
    });
  }
}

Shape Qkv(const AttentionShape& s) {
  return {s.batch * s.seq_len, (s.num_heads + 2 * s.num_kv_heads) * s.head_dim};
}
Shape Heads(const AttentionShape& s) { return {s.batch * s.seq_len, s.num_heads * s.head_dim}; }

// Groups of heads; several blocks; ragged; one token; empty. In bf16 the backward pass starts from
// a rounded y: dy y, of D terms, inherits that error.
TEST_P(CpuKernelsTest, CausalAttention) {
  for (const AttentionShape& s : {AttentionShape{2, 17, 4, 2, 8},
                                  {1, 130, 2, 1, 64},
                                  {1, 66, 2, 2, 67},
                                  {3, 1, 1, 1, 5},
                                  {2, 0, 2, 1, 8},
                                  {1, 200, 2, 1, 20, 1},
                                  {2, 150, 4, 2, 33, 70},
                                  {1, 150, 2, 1, 24, 20, 0.3, 2}}) {
    SCOPED_TRACE(::testing::Message() << "T " << s.seq_len << ", D " << s.head_dim);
    const double bound = AttentionTolerance(s.head_dim, s.seq_len);
    const Shape lse = {s.batch, s.num_heads, s.seq_len};
    const ParityOperand y = Out(Heads(s), bound), statistic = {lse, DType::kF32, bound};
    ExpectCpuFollowsF64({In(Qkv(s)), y, statistic}, [&](const Context& ctx, const Tensors& t) {
      return CausalAttentionForward(ctx, t[0], s, t[1], t[2]);
    });
    // A head of one token has no gradient except that of its value.
    ExpectCpuFollowsF64({In(Qkv(s)), y, statistic, In(Heads(s)), Out(Qkv(s), 2 * bound, 2)},
                        [&](const Context& ctx, const Tensors& t) {
                          const absl::Status status =
                              CausalAttentionForward(ctx, t[0], s, t[1], t[2]);
                          if (!status.ok()) return status;
                          return CausalAttentionBackward(ctx, t[3], t[0], t[1], t[2], s, t[4]);
                        });
  }
}

// Documents of one token, of less than a block, and of several; windows and caps within them. The
// positions are outside of the operands, which are filled with random numbers.
TEST_P(CpuKernelsTest, DocumentAttention) {
  const std::vector<int64_t> lengths = {1, 130, 19, 70, 64, 16};
  for (const AttentionShape& s :
       {AttentionShape{2, 150, 4, 2, 8}, {2, 150, 2, 1, 33, 70}, {2, 150, 2, 2, 24, 20, 0.3, 2}}) {
    const TestTensor positions(DType::kI32, {300});
    ASSERT_EQ(SetDocumentPositions(lengths, 150, positions), absl::OkStatus());
    const Documents documents = {positions, lengths};
    const double bound = AttentionTolerance(s.head_dim, s.seq_len);
    const ParityOperand y = Out(Heads(s), bound),
                        statistic = {{2, s.num_heads, 150}, DType::kF32, bound};
    ExpectCpuFollowsF64(
        {In(Qkv(s)), y, statistic, In(Heads(s)), Out(Qkv(s), 2 * bound, 2)},
        [&](const Context& ctx, const Tensors& t) {
          const absl::Status status = CausalAttentionForward(ctx, t[0], s, t[1], t[2], documents);
          if (!status.ok()) return status;
          return CausalAttentionBackward(ctx, t[3], t[0], t[1], t[2], s, t[4], documents);
        });
  }
}

// One token, a prompt in tiles, a few tokens; after a cache and without one.
TEST_P(CpuKernelsTest, CachedAttention) {
  for (const auto& [s, past] : {std::pair<AttentionShape, int64_t>{{1, 1, 4, 2, 8}, 150},
                                {{1, 9, 2, 1, 16}, 0},
                                {{1, 7, 2, 2, 9}, 50},
                                {{1, 70, 2, 1, 64}, 10},
                                {{1, 0, 2, 1, 8}, 5},
                                {{1, 1, 4, 2, 8, 33, 0.4, 2}, 150},
                                {{1, 7, 2, 2, 9, 5}, 50},
                                {{1, 70, 2, 1, 64, 20, 0, 3}, 100}}) {
    SCOPED_TRACE(::testing::Message() << "N " << s.seq_len << ", past " << past);
    const ParityOperand cache = In({past + s.seq_len + 3, s.num_kv_heads * s.head_dim});
    ExpectCpuFollowsF64(
        {In(Qkv(s)), cache, cache, Out(Heads(s), AttentionTolerance(s.head_dim, past + s.seq_len))},
        [&, s = s, past = past](const Context& ctx, const Tensors& t) {
          return CachedAttentionForward(ctx, t[0], s, past, t[1], t[2], t[3]);
        });
  }
}

// Rows of several vectors, and of less than one; with and without padding.
TEST_P(CpuKernelsTest, SoftmaxCrossEntropy) {
  for (const auto& [rows, columns, vocab] :
       {std::tuple<int64_t, int64_t, int64_t>{5, 128, 101}, {3, 64, 64}, {4, 7, 5}, {0, 8, 8}}) {
    SCOPED_TRACE(::testing::Message() << rows << " x " << columns << ", " << vocab);
    // exp() of a difference of normal numbers, below 10 in size, magnifies their roundings.
    const double sum = F32SumTolerance(vocab, 20);
    const ParityOperand targets = {{rows}, DType::kI32, 0, vocab}, f32 = {{rows}, DType::kF32, sum};
    ExpectCpuFollowsF64({In({rows, columns}), targets, f32, f32},
                        [&, v = vocab](const Context& ctx, const Tensors& t) {
                          return SoftmaxCrossEntropyForward(ctx, t[0], t[1], v, t[2], t[3]);
                        });
    for (const double softcap : {0, 8}) {
      ExpectCpuFollowsF64({Out({rows, columns}, sum), targets, f32, f32},
                          [&, v = vocab](const Context& ctx, const Tensors& t) {
                            return SoftmaxCrossEntropyForwardBackward(ctx, t[1], v, 0.25, softcap,
                                                                      t[0], t[2], t[3]);
                          });
    }
    // A slice that begins in the middle of the vocabulary.
    const VocabSlice slice = {.vocab_size = vocab, .begin = vocab / 2};
    const int64_t half = columns - vocab / 2;
    ExpectCpuFollowsF64({In({rows, half}), targets, f32, {{2, rows}, DType::kF32, sum}},
                        [&](const Context& ctx, const Tensors& t) {
                          const absl::Status status = SoftmaxSliceMax(ctx, t[0], slice, t[2]);
                          if (!status.ok()) return status;
                          return SoftmaxSliceSums(ctx, t[0], t[1], slice, t[2], t[3]);
                        });
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, CpuKernelsTest, ::testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& info) { return DTypeName(info.param); });

}  // namespace
}  // namespace strake
