// The CUDA kernel of AdamW, under the emulator and on a GPU, against the reference in f64.
#include "core/ops/cuda/adamw.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "core/ops/reference/adamw.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::Copy;
using testing::FillNormal;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;
using testing::ToDouble;

constexpr double kUnit = 0x1p-24;

AdamWStep StepOf(double beta1) {
  return {.lr = 0.01, .beta1 = beta1, .weight_decay = 0.1, .grad_scale = 0.7, .step = 3};
}

cuda::AdamWScalars ScalarsOf(const AdamWStep& step) {
  const reference::AdamWScalars<float> s(step);
  return {s.grad_scale,       s.decay, s.beta1,    s.one_minus_beta1, s.beta2, s.one_minus_beta2,
          s.sqrt_correction2, s.eps,   s.step_size};
}

struct Problem {
  Problem(const AdamWStep& step, int64_t size, GuardAt guard_at)
      : size(size),
        scalars("scalars", 1),
        grad("grad", size, guard_at),
        weight("weight", size, guard_at),
        exp_avg("exp_avg", size, guard_at),
        exp_avg_sq("exp_avg_sq", size, guard_at),
        rounded("rounded", size, guard_at) {
    scalars[0] = ScalarsOf(step);
    FillNormal(grad, 1);
    FillNormal(weight, 2);
    FillNormal(exp_avg, 3);
    FillNormal(exp_avg_sq, 4);
    for (float& v : exp_avg_sq) v *= v;
  }

  absl::Status Update(bool weight_decay, bool with_rounded) {
    return cuda::AdamWUpdate(nullptr, scalars.data(), weight_decay, grad.data(), size,
                             weight.data(), exp_avg.data(), exp_avg_sq.data(),
                             with_rounded ? rounded.data() : nullptr);
  }

  int64_t size;
  GuardedBuffer<cuda::AdamWScalars> scalars;
  GuardedBuffer<float> grad, weight, exp_avg, exp_avg_sq;
  GuardedBuffer<Bf16> rounded;
};

// From the same f32 scalars in f64: the errors are the kernel's own roundings.
void Reference(const Problem& p, bool weight_decay, std::vector<double>* weight,
               std::vector<double>* exp_avg, std::vector<double>* exp_avg_sq) {
  const cuda::AdamWScalars& from = p.scalars[0];
  reference::AdamWScalars<double> s{AdamWStep{}};
  s.grad_scale = from.grad_scale;
  s.decay = weight_decay ? from.decay : 1;
  s.beta1 = from.beta1;
  s.one_minus_beta1 = from.one_minus_beta1;
  s.beta2 = from.beta2;
  s.one_minus_beta2 = from.one_minus_beta2;
  s.sqrt_correction2 = from.sqrt_correction2;
  s.eps = from.eps;
  s.step_size = from.step_size;
  reference::AdamWUpdate(s, ToDouble(p.grad).data(), p.size, weight->data(), exp_avg->data(),
                         exp_avg_sq->data());
}

void CheckUpdate(const AdamWStep& step, int64_t size, GuardAt guard_at, bool weight_decay,
                 bool with_rounded) {
  SCOPED_TRACE(::testing::Message()
               << size << ", beta1 " << step.beta1 << ", guard " << static_cast<int>(guard_at)
               << ", decay " << weight_decay << ", rounded " << with_rounded);
  Problem p(step, size, guard_at);
  std::vector<double> weight = ToDouble(p.weight), exp_avg = ToDouble(p.exp_avg),
                      exp_avg_sq = ToDouble(p.exp_avg_sq);
  const std::vector<double> old_weight = weight, old_exp_avg = exp_avg, grad = ToDouble(p.grad);
  Reference(p, weight_decay, &weight, &exp_avg, &exp_avg_sq);
  ASSERT_EQ(p.Update(weight_decay, with_rounded), absl::OkStatus());
  for (int64_t i = 0; i < size; ++i) {
    // Each result is made by at most six roundings of numbers of the terms' sizes.
    const double m_size = std::abs(old_exp_avg[i]) + std::abs(grad[i]);
    ASSERT_NEAR(p.exp_avg[i], exp_avg[i], 6 * kUnit * m_size) << i;
    ASSERT_NEAR(p.exp_avg_sq[i], exp_avg_sq[i], 6 * kUnit * exp_avg_sq[i]) << i;
    const double change = p.scalars[0].step_size * m_size /
                          (std::sqrt(exp_avg_sq[i]) / p.scalars[0].sqrt_correction2);
    ASSERT_NEAR(p.weight[i], weight[i], kUnit * (2 * std::abs(old_weight[i]) + 16 * change)) << i;
    ASSERT_NE(p.weight[i], old_weight[i]) << i;
    const Bf16 nearest(p.weight[i]);
    if (with_rounded) {
      ASSERT_EQ(std::memcmp(&p.rounded[i], &nearest, sizeof(Bf16)), 0) << i;
    }
  }
}

// Of less than a vector, and of several blocks; ragged.
TEST(AdamWCudaTest, FollowsTheReference) {
  for (const int64_t size : {0, 1, 3, 8, 13, 1024, 2048, 2055, 9001}) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      for (const bool weight_decay : {false, true}) {
        for (const bool with_rounded : {false, true}) {
          CheckUpdate(StepOf(0.9), size, guard_at, weight_decay, with_rounded);
        }
      }
    }
  }
  CheckUpdate(StepOf(0.3), 100, GuardAt::kStart, true, true);  // the other form of the mean
}

// What a dimension that is never used keeps: no 0 / 0.
TEST(AdamWCudaTest, ZerosStayZeros) {
  Problem p(StepOf(0.9), 40, GuardAt::kStart);
  for (const auto* x : {&p.grad, &p.weight, &p.exp_avg, &p.exp_avg_sq}) {
    std::fill(x->begin(), x->end(), 0.f);
  }
  ASSERT_EQ(p.Update(true, true), absl::OkStatus());
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(p.weight[i], 0);
    EXPECT_EQ(static_cast<float>(p.rounded[i]), 0);
  }
}

// Neither the range, nor addresses, nor the order of threads.
TEST(AdamWCudaTest, TheSameBits) {
  constexpr int64_t kSize = 3001;
  Problem all(StepOf(0.9), kSize, GuardAt::kStart);
  ASSERT_EQ(all.Update(true, true), absl::OkStatus());
  for (uint64_t seed = 0; seed < 3; ++seed) {
    std::optional<ScopedRandomCudaOrder> order;
    if (seed > 0) order.emplace(seed);
    Problem p(StepOf(0.9), kSize, GuardAt::kStart);
    int64_t begin = 0;
    for (const int64_t end : {int64_t{1}, int64_t{1024}, int64_t{1031}, kSize}) {
      ASSERT_EQ(cuda::AdamWUpdate(nullptr, p.scalars.data(), true, p.grad.data() + begin,
                                  end - begin, p.weight.data() + begin, p.exp_avg.data() + begin,
                                  p.exp_avg_sq.data() + begin, p.rounded.data() + begin),
                absl::OkStatus());
      begin = end;
    }
    EXPECT_TRUE(SameBits(p.weight, Copy(all.weight)));
    EXPECT_TRUE(SameBits(p.exp_avg, Copy(all.exp_avg)));
    EXPECT_TRUE(SameBits(p.exp_avg_sq, Copy(all.exp_avg_sq)));
    EXPECT_TRUE(SameBits(p.rounded, Copy(all.rounded)));
  }
}

}  // namespace
}  // namespace strake
