// The CUDA kernels of activations, under the emulator and on a GPU, against the reference in f64.
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/activation/activation_cuda.h"
#include "core/ops/activation/activation_kind.h"
#include "core/ops/activation/activation_reference.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::Copy;
using testing::ExpectEachNear;
using testing::FillNormal;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::kRoundoff;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;
using testing::ToDouble;

// Relative to y and dx themselves: the rounding of the result, then 2^-z of a z (up to 30 here)
// that was rounded three times, and a dozen more roundings. In the tail of the normal distribution
// these also hold the error of its polynomial. The sum of dx's two terms, each below
// 3 |dy|, may cancel; the errors are then those of the terms.
template <typename T>
constexpr double kBound = kRoundoff<T> + (3 * 30 + 12) * 0x1p-24;
constexpr double kCancelled = 3 * 4 * (3 * 30 + 12) * 0x1p-24;  // |dy| < 4

template <typename T>
class ActivationCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(ActivationCudaTest, Types);

// Sizes within a vector, within a block (512 vectors of 4 or 8), and beyond, with and without a
// tail.
constexpr int64_t kSizes[] = {0, 1, 7, 8, 1000, 2048, 4096, 4099, 12289};

template <typename T>
struct Problem {
  Problem(ActivationKind kind, int64_t size, GuardAt guard_at)
      : kind(kind),
        x("x", size, guard_at),
        dy("dy", size, guard_at),
        y("y", size, guard_at),
        dx("dx", size, guard_at) {
    FillNormal(x, 1, 1.5);  // to +- 6
    FillNormal(dy, 2, 0.8);
  }
  absl::Status Forward(const T* from, T* to) {
    return cuda::ActivationForward<T>(
        nullptr, {.kind = kind, .x = from, .size = static_cast<int64_t>(x.size()), .y = to});
  }
  absl::Status Backward(const T* dy, const T* x, T* to) {
    return cuda::ActivationBackward<T>(
        nullptr,
        {.kind = kind, .dy = dy, .x = x, .size = static_cast<int64_t>(y.size()), .dx = to});
  }

  ActivationKind kind;
  GuardedBuffer<T> x, dy, y, dx;
};

template <typename T>
void ExpectReference(ActivationKind kind, const T* dy, const T* x, int64_t size, const T* y,
                     const T* dx) {
  const std::vector<double> dy_truth = ToDouble(dy, size), x_truth = ToDouble(x, size);
  std::vector<double> y_truth(size), dx_truth(size);
  reference::ActivationForward(kind, x_truth.data(), size, y_truth.data());
  reference::ActivationBackward(kind, dy_truth.data(), x_truth.data(), size, dx_truth.data());
  // The reference's 1 + tanh cancels, in f64.
  ExpectEachNear(ToDouble(y, size), y_truth, kBound<T>, 1e-15, "y");
  ExpectEachNear(ToDouble(dx, size), dx_truth, kBound<T>, kCancelled, "dx");
}

TYPED_TEST(ActivationCudaTest, FollowsTheReference) {
  for (const ActivationKind kind : kActivationKinds) {
    for (const int64_t size : kSizes) {
      for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
        SCOPED_TRACE(::testing::Message() << size << ", kind " << static_cast<int>(kind));
        Problem<TypeParam> p(kind, size, guard_at);
        ASSERT_EQ(p.Forward(p.x.data(), p.y.data()), absl::OkStatus());
        ASSERT_EQ(p.Backward(p.dy.data(), p.x.data(), p.dx.data()), absl::OkStatus());
        ExpectReference(kind, p.dy.data(), p.x.data(), size, p.y.data(), p.dx.data());
      }
    }
  }
}

TYPED_TEST(ActivationCudaTest, FarFromZero) {
  // The slope of GELU by tanh is NaN from 2e19 on, because x^2 overflows: in f32's definition, too.
  constexpr size_t kSlopes = 12;
  const std::vector<float> far = {0,    -0.f,  28,   -28,   30,   -30,   300,  -300,
                                  1e10, -1e10, 1e18, -1e18, 1e37, -1e37, 3e38, -3e38};
  for (const ActivationKind kind : kActivationKinds) {
    Problem<TypeParam> p(kind, far.size(), GuardAt::kStart);
    for (size_t i = 0; i < far.size(); ++i) {
      p.x[i] = TypeParam(far[i]);
      p.dy[i] = TypeParam(1.f);
    }
    ASSERT_EQ(p.Forward(p.x.data(), p.y.data()), absl::OkStatus());
    ASSERT_EQ(p.Backward(p.dy.data(), p.x.data(), p.dx.data()), absl::OkStatus());
    for (size_t i = 0; i < far.size(); ++i) {
      const float value = static_cast<float>(p.x[i]);
      // 28 / (1 + exp(28)) is SiLU's largest tail here.
      EXPECT_NEAR(static_cast<float>(p.y[i]), value > 0 ? value : 0, 3e-11) << value;
      if (i < 2) continue;
      if (i >= kSlopes && kind == ActivationKind::kGeluTanh) continue;
      EXPECT_NEAR(static_cast<float>(p.dx[i]), value > 0 ? 1 : 0, 3e-11) << value;
    }
  }
}

TYPED_TEST(ActivationCudaTest, NanShows) {
  for (const ActivationKind kind : kActivationKinds) {
    Problem<TypeParam> p(kind, 3, GuardAt::kStart);
    p.x[1] = TypeParam(std::nanf(""));
    ASSERT_EQ(p.Forward(p.x.data(), p.y.data()), absl::OkStatus());
    for (int i = 0; i < 3; ++i) EXPECT_EQ(std::isnan(static_cast<float>(p.y[i])), i == 1);
  }
}

TYPED_TEST(ActivationCudaTest, AnyTensorMayBeUnaligned) {
  constexpr ActivationKind kKind = ActivationKind::kGelu;
  for (int unaligned = 0; unaligned < 4; ++unaligned) {
    SCOPED_TRACE(unaligned);
    Problem<TypeParam> p(kKind, 65, GuardAt::kStart);
    const auto at = [&](const auto& buffer, int i) { return buffer.data() + (i == unaligned); };
    ASSERT_EQ(cuda::ActivationForward<TypeParam>(
                  nullptr, {.kind = kKind, .x = at(p.x, 0), .size = 64, .y = at(p.y, 1)}),
              absl::OkStatus());
    ASSERT_EQ(
        cuda::ActivationBackward<TypeParam>(
            nullptr,
            {.kind = kKind, .dy = at(p.dy, 2), .x = at(p.x, 0), .size = 64, .dx = at(p.dx, 3)}),
        absl::OkStatus());
    ExpectReference(kKind, at(p.dy, 2), at(p.x, 0), 64, at(p.y, 1), at(p.dx, 3));
  }
}

TYPED_TEST(ActivationCudaTest, InPlaceAndInEveryOrderTheSameBits) {
  for (const ActivationKind kind : kActivationKinds) {
    for (const int64_t size : {4099, 12289}) {
      Problem<TypeParam> p(kind, size, GuardAt::kStart);
      ASSERT_EQ(p.Forward(p.x.data(), p.y.data()), absl::OkStatus());
      ASSERT_EQ(p.Backward(p.dy.data(), p.x.data(), p.dx.data()), absl::OkStatus());
      const std::vector<TypeParam> y = Copy(p.y), dx = Copy(p.dx);
      const ScopedRandomCudaOrder order(1);
      Problem<TypeParam> over_x(kind, size, GuardAt::kStart), over_dy(kind, size, GuardAt::kStart),
          forward(kind, size, GuardAt::kStart);
      ASSERT_EQ(over_x.Backward(over_x.dy.data(), over_x.x.data(), over_x.x.data()),
                absl::OkStatus());
      EXPECT_TRUE(SameBits(over_x.x, dx));
      ASSERT_EQ(over_dy.Backward(over_dy.dy.data(), over_dy.x.data(), over_dy.dy.data()),
                absl::OkStatus());
      EXPECT_TRUE(SameBits(over_dy.dy, dx));
      ASSERT_EQ(forward.Forward(forward.x.data(), forward.x.data()), absl::OkStatus());
      EXPECT_TRUE(SameBits(forward.x, y));
    }
  }
}

}  // namespace
}  // namespace strake
