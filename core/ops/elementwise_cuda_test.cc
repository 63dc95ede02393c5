// The elementwise ops on a GPU, through the ops that dispatch to it: activations, bias, residual,
// RoPE, scales, soft caps.
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/activation/activation.h"
#include "core/ops/bias_add/bias_add.h"
#include "core/ops/gated_activation/gated_activation.h"
#include "core/ops/residual_add/residual_add.h"
#include "core/ops/rope/rope.h"
#include "core/ops/scale/scale.h"
#include "core/ops/softcap/softcap.h"
#include "core/testing/cuda_parity.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ExpectFollowsF64;
using testing::F32SumTolerance;
using testing::ParityOperand;
using testing::UnitRoundoff;
using Tensors = std::vector<Tensor>;

constexpr std::pair<int64_t, int64_t> kSizes[] = {{5, 64}, {3, 7}, {0, 8}};  // rows, columns

class ElementwiseCudaTest : public ::testing::TestWithParam<DType> {
 protected:
  ParityOperand In(const Shape& shape) const { return {shape, GetParam()}; }
  // An output that is computed in f32 with this many roundings.
  ParityOperand Out(const Shape& shape, int num_roundings) const {
    return {shape, GetParam(), num_roundings * 0x1p-24 + UnitRoundoff(GetParam())};
  }
};

// Terms of GELU's slope nearly cancel.
TEST_P(ElementwiseCudaTest, Activation) {
  for (const ActivationKind kind : kActivationKinds) {
    for (const auto& [n, c] : kSizes) {
      const Shape shape = {n, c};
      ExpectFollowsF64({In(shape), Out(shape, 8)}, [kind](const Context& ctx, const Tensors& t) {
        return ActivationForward(ctx, kind, t[0], t[1]);
      });
      ExpectFollowsF64({In(shape), In(shape), Out(shape, 25)},
                       [kind](const Context& ctx, const Tensors& t) {
                         return ActivationBackward(ctx, kind, t[0], t[1], t[2]);
                       });
      ExpectFollowsF64({In(shape), Out(shape, 25)}, [kind](const Context& ctx, const Tensors& t) {
        return ActivationBackward(ctx, kind, t[0], t[1], t[1]);
      });
    }
  }
}

TEST_P(ElementwiseCudaTest, GatedActivation) {
  for (const ActivationKind kind : kActivationKinds) {
    for (const auto& [n, c] : kSizes) {
      const Shape half = {n, c}, whole = {n, 2 * c};
      ExpectFollowsF64({In(whole), Out(half, 8)}, [kind](const Context& ctx, const Tensors& t) {
        return GatedActivationForward(ctx, kind, t[0], t[1]);
      });
      ExpectFollowsF64({In(half), In(whole), Out(whole, 25)},
                       [kind](const Context& ctx, const Tensors& t) {
                         return GatedActivationBackward(ctx, kind, t[0], t[1], t[2]);
                       });
    }
  }
}

TEST_P(ElementwiseCudaTest, BiasAdd) {
  for (const auto& [n, c] : kSizes) {
    const Shape shape = {n, c};
    ExpectFollowsF64({In(shape), In({c}), Out(shape, 1)}, [](const Context& ctx, const Tensors& t) {
      return BiasAddForward(ctx, t[0], t[1], t[2]);
    });
    ExpectFollowsF64(
        {In(shape), {{c}, DType::kF32, F32SumTolerance(n)}},
        [](const Context& ctx, const Tensors& t) { return BiasAddBackward(ctx, t[0], t[1]); });
  }
}

TEST_P(ElementwiseCudaTest, ResidualAdd) {
  for (const auto& [n, c] : kSizes) {
    const Shape shape = {n, c};
    ExpectFollowsF64({In(shape), Out(shape, 1)}, [](const Context& ctx, const Tensors& t) {
      return ResidualAddForward(ctx, t[1], t[0], t[1]);
    });
  }
}

TEST_P(ElementwiseCudaTest, ScaleAndSoftcap) {
  for (const auto& [n, c] : kSizes) {
    const Shape shape = {n, c};
    ExpectFollowsF64({In(shape), Out(shape, 2)}, [](const Context& ctx, const Tensors& t) {
      return Scale(ctx, 0.3, t[0], t[1]);
    });
    ExpectFollowsF64({In(shape), Out(shape, 8)}, [](const Context& ctx, const Tensors& t) {
      return Softcap(ctx, 1.5, t[0], t[1]);
    });
    ExpectFollowsF64({Out(shape, 8)}, [](const Context& ctx, const Tensors& t) {
      return Softcap(ctx, 30, t[0], t[0]);
    });
  }
}

// Rotates two of five adjacent heads in a row.
TEST_P(ElementwiseCudaTest, Rope) {
  struct Case {
    int64_t rotary_dim, head_dim, num_tokens;
    bool interleaved;
  };
  // Heads of whole vectors, with a rest, and of less than a vector; no tokens.
  constexpr Case kCases[] = {{32, 32, 12, false}, {6, 6, 12, false},  {8, 8, 0, false},
                             {48, 80, 12, false}, {6, 10, 12, false}, {64, 64, 12, true},
                             {40, 64, 12, true},  {6, 10, 12, true}};
  for (const Case& c : kCases) {
    const RopeHeads heads = {.num_heads = 2, .head_dim = c.head_dim, .interleaved = c.interleaved};
    const ParityOperand table = {{9, c.rotary_dim}, DType::kF64},
                        x = Out({c.num_tokens, 5 * c.head_dim}, 8);
    ExpectFollowsF64({table, x}, [&](const Context& ctx, const Tensors& t) {
      return RopeForward(ctx, t[0], heads, /*seq_len=*/6, /*position_offset=*/3, t[1]);
    });
    ExpectFollowsF64({table, x}, [&](const Context& ctx, const Tensors& t) {
      return RopeBackward(ctx, t[0], heads, /*seq_len=*/6, t[1]);
    });
    const ParityOperand positions = {{c.num_tokens}, DType::kI32, 0, /*num_tokens=*/9};
    ExpectFollowsF64({table, x, positions}, [&](const Context& ctx, const Tensors& t) {
      return RopeForward(ctx, t[0], heads, /*seq_len=*/6, /*position_offset=*/0, t[1], t[2]);
    });
    ExpectFollowsF64({table, x, positions}, [&](const Context& ctx, const Tensors& t) {
      return RopeBackward(ctx, t[0], heads, /*seq_len=*/6, t[1], t[2]);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, ElementwiseCudaTest, ::testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& info) { return DTypeName(info.param); });

}  // namespace
}  // namespace strake
