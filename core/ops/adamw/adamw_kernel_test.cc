// The CUDA kernel of AdamW, under the emulator and on a GPU, against the reference in f64.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "core/ops/adamw/adamw_cuda.h"
#include "core/ops/adamw/adamw_reference.h"
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

constexpr double kGradScale = 0.7;

AdamWStep StepOf(double beta1) {
  return {.lr = 0.01, .beta1 = beta1, .weight_decay = 0.1, .step = 3};
}

struct Problem {
  Problem(const AdamWStep& step, int64_t size, GuardAt guard_at)
      : size(size),
        scalars("scalars", 1),
        clip("clip", 2),
        grad("grad", size, guard_at),
        weight("weight", size, guard_at),
        exp_avg("exp_avg", size, guard_at),
        exp_avg_sq("exp_avg_sq", size, guard_at),
        rounded("rounded", size, guard_at) {
    scalars[0] = reference::AdamWScalarsOf<float>(step);
    clip[0] = 2;
    clip[1] = kGradScale;
    FillNormal(grad, 1);
    FillNormal(weight, 2);
    FillNormal(exp_avg, 3);
    FillNormal(exp_avg_sq, 4);
    for (float& v : exp_avg_sq) v *= v;
  }

  absl::Status Update(bool weight_decay, bool with_rounded) {
    return cuda::AdamWUpdate(nullptr, {.scalars = scalars.data(),
                                       .weight_decay = weight_decay,
                                       .clip = clip.data(),
                                       .grad = grad.data(),
                                       .size = size,
                                       .weight = weight.data(),
                                       .exp_avg = exp_avg.data(),
                                       .exp_avg_sq = exp_avg_sq.data(),
                                       .rounded = with_rounded ? rounded.data() : nullptr});
  }

  int64_t size;
  GuardedBuffer<AdamWScalars<float>> scalars;
  GuardedBuffer<double> clip;
  GuardedBuffer<float> grad, weight, exp_avg, exp_avg_sq;
  GuardedBuffer<Bf16> rounded;
};

// Computes in f64 from the same f32 scalars, so that the errors are the kernel's own roundings.
void Reference(const Problem& p, bool weight_decay, std::vector<double>* weight,
               std::vector<double>* exp_avg, std::vector<double>* exp_avg_sq) {
  const AdamWScalars<float>& from = p.scalars[0];
  const AdamWScalars<double> s = {.decay = weight_decay ? from.decay : 1,
                                  .beta1 = from.beta1,
                                  .one_minus_beta1 = from.one_minus_beta1,
                                  .beta2 = from.beta2,
                                  .one_minus_beta2 = from.one_minus_beta2,
                                  .sqrt_correction2 = from.sqrt_correction2,
                                  .eps = from.eps,
                                  .step_size = from.step_size};
  const double grad_scale = static_cast<float>(p.clip[1]);
  reference::AdamWUpdate(s, grad_scale, ToDouble(p.grad).data(), p.size, weight->data(),
                         exp_avg->data(), exp_avg_sq->data());
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
    // Each result has at most six roundings of numbers of the terms' sizes.
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

// Ragged sizes, of less than a vector and of several blocks.
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

// A dimension that is never used keeps its zeros: no 0 / 0.
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

void ExpectClip(double norm, double scale, bool updates) {
  SCOPED_TRACE(::testing::Message() << "norm " << norm << ", scale " << scale);
  for (const int64_t size : {5, 40}) {
    Problem p(StepOf(0.9), size, GuardAt::kStart);
    const std::vector<float> weight = Copy(p.weight), m = Copy(p.exp_avg), v = Copy(p.exp_avg_sq);
    const std::vector<Bf16> rounded = Copy(p.rounded);
    p.clip[0] = norm;
    p.clip[1] = scale;
    ASSERT_EQ(p.Update(true, true), absl::OkStatus());
    EXPECT_NE(SameBits(p.weight, weight), updates);
    EXPECT_NE(SameBits(p.exp_avg, m), updates);
    EXPECT_NE(SameBits(p.exp_avg_sq, v), updates);
    EXPECT_NE(SameBits(p.rounded, rounded), updates);
  }
}

TEST(AdamWCudaTest, NothingChangesWithoutAFiniteNormAndAPositiveScale) {
  ExpectClip(3, 0.5, true);
  ExpectClip(NAN, NAN, false);
  ExpectClip(NAN, 1, false);
  ExpectClip(INFINITY, 1, false);
  ExpectClip(INFINITY, 0, false);
  ExpectClip(3, 0, false);
  ExpectClip(3, -1, false);
  ExpectClip(3, INFINITY, false);
  ExpectClip(3, NAN, false);
}

TEST(AdamWCudaTest, NoClipIsAScaleOfOne) {
  Problem p(StepOf(0.9), 33, GuardAt::kStart), one(StepOf(0.9), 33, GuardAt::kStart);
  one.clip[1] = 1;
  ASSERT_EQ(one.Update(true, true), absl::OkStatus());
  ASSERT_EQ(cuda::AdamWUpdate(nullptr, {.scalars = p.scalars.data(),
                                        .weight_decay = true,
                                        .clip = nullptr,
                                        .grad = p.grad.data(),
                                        .size = p.size,
                                        .weight = p.weight.data(),
                                        .exp_avg = p.exp_avg.data(),
                                        .exp_avg_sq = p.exp_avg_sq.data(),
                                        .rounded = p.rounded.data()}),
            absl::OkStatus());
  EXPECT_TRUE(SameBits(p.weight, Copy(one.weight)));
  EXPECT_TRUE(SameBits(p.exp_avg, Copy(one.exp_avg)));
  EXPECT_TRUE(SameBits(p.rounded, Copy(one.rounded)));
}

// Bits depend neither on the range, nor on addresses, nor on the order of threads.
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
      ASSERT_EQ(cuda::AdamWUpdate(nullptr, {.scalars = p.scalars.data(),
                                            .weight_decay = true,
                                            .clip = p.clip.data(),
                                            .grad = p.grad.data() + begin,
                                            .size = end - begin,
                                            .weight = p.weight.data() + begin,
                                            .exp_avg = p.exp_avg.data() + begin,
                                            .exp_avg_sq = p.exp_avg_sq.data() + begin,
                                            .rounded = p.rounded.data() + begin}),
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
