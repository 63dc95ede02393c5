// The CUDA kernels of gated activations, under the emulator and on a GPU, against the reference in
// f64.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/activation/activation_kind.h"
#include "core/ops/gated_activation/gated_activation_cuda.h"
#include "core/ops/gated_activation/gated_activation_reference.h"
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

// Relative to the result: its rounding, then 2^-z of a z (up to 12 of SiLU, 50 of GELU) that was
// rounded once, or three times of GELU, and a dozen more roundings. The sum in dgate, whose terms
// are each below 2 |dy up|, may cancel; the errors are then those of the terms. GELU's value is
// below 1e-15 where the definition's 1 + tanh cancels.
double Roundings(ActivationKind kind) { return kind == ActivationKind::kSilu ? 12 + 12 : 162; }
template <typename T>
double Bound(ActivationKind kind) {
  return kRoundoff<T> + Roundings(kind) * 0x1p-24;
}
double Cancelled(ActivationKind kind) {
  return 2 * 4 * 8 * Roundings(kind) * 0x1p-24;  // |dy| < 4, |up| < 8
}

template <typename T>
class GatedActivationCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(GatedActivationCudaTest, Types);

struct Size {
  int64_t rows, columns;
};

// Vectors and single elements; one chunk of columns, and several (above 256 vectors or elements)
// of which the last is not full; rows that do not fill the last tile.
constexpr Size kSizes[] = {{1, 1}, {3, 7}, {5, 64},  {2, 768},  {3, 1600}, {2, 4096},
                           {0, 8}, {4, 0}, {37, 33}, {6, 1027}, {1, 5504}};

template <typename T>
struct Problem {
  Problem(ActivationKind kind, Size size, GuardAt guard_at)
      : kind(kind),
        size(size),
        gate_up("gate_up", size.rows * 2 * size.columns, guard_at),
        dy("dy", size.rows * size.columns, guard_at),
        y("y", size.rows * size.columns, guard_at),
        dgate_up("dgate_up", size.rows * 2 * size.columns, guard_at) {
    FillNormal(gate_up, 1, 1.7);  // to +- 8
    FillNormal(dy, 2, 0.9);
  }
  absl::Status Forward() {
    return cuda::GatedActivationForward<T>(nullptr, {.kind = kind,
                                                     .gate_up = gate_up.data(),
                                                     .rows = size.rows,
                                                     .columns = size.columns,
                                                     .y = y.data()});
  }
  absl::Status Backward(T* to) {
    return cuda::GatedActivationBackward<T>(nullptr, {.kind = kind,
                                                      .dy = dy.data(),
                                                      .gate_up = gate_up.data(),
                                                      .rows = size.rows,
                                                      .columns = size.columns,
                                                      .dgate_up = to});
  }

  ActivationKind kind;
  Size size;
  GuardedBuffer<T> gate_up, dy, y, dgate_up;
};

template <typename T>
void ExpectReference(ActivationKind kind, const T* dy, const T* gate_up, Size size, const T* y,
                     const T* dgate_up) {
  const int64_t n = size.rows * size.columns;
  const std::vector<double> d = ToDouble(dy, n), in = ToDouble(gate_up, 2 * n);
  std::vector<double> y_truth(n), dgate_up_truth(2 * n);
  reference::GatedActivationForward(kind, in.data(), size.rows, size.columns, y_truth.data());
  reference::GatedActivationBackward(kind, d.data(), in.data(), size.rows, size.columns,
                                     dgate_up_truth.data());
  ExpectEachNear(ToDouble(y, n), y_truth, Bound<T>(kind), 1e-14, "y");
  ExpectEachNear(ToDouble(dgate_up, 2 * n), dgate_up_truth, Bound<T>(kind), Cancelled(kind),
                 "dgate_up");
}

TYPED_TEST(GatedActivationCudaTest, FollowsTheReference) {
  for (const ActivationKind kind : kActivationKinds) {
    for (const Size size : kSizes) {
      for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
        SCOPED_TRACE(::testing::Message()
                     << size.rows << " x " << size.columns << ", kind " << static_cast<int>(kind));
        Problem<TypeParam> p(kind, size, guard_at);
        ASSERT_EQ(p.Forward(), absl::OkStatus());
        ASSERT_EQ(p.Backward(p.dgate_up.data()), absl::OkStatus());
        ExpectReference(kind, p.dy.data(), p.gate_up.data(), size, p.y.data(), p.dgate_up.data());
      }
    }
  }
}

TYPED_TEST(GatedActivationCudaTest, FarFromZero) {
  for (const ActivationKind kind : kActivationKinds) {
    const std::vector<float> gates = {0, -0.f, 20, -20, 90, -90, 1000, -1000, 1e37, -1e37};
    for (const float gate : gates) {
      GuardedBuffer<TypeParam> gate_up("gate_up", 2), dy("dy", 1), y("y", 1),
          dgate_up("dgate_up", 2);
      gate_up[0] = TypeParam(gate);
      gate_up[1] = dy[0] = TypeParam(1.f);
      ASSERT_EQ(
          cuda::GatedActivationForward<TypeParam>(
              nullptr,
              {.kind = kind, .gate_up = gate_up.data(), .rows = 1, .columns = 1, .y = y.data()}),
          absl::OkStatus());
      ASSERT_EQ(cuda::GatedActivationBackward<TypeParam>(nullptr, {.kind = kind,
                                                                   .dy = dy.data(),
                                                                   .gate_up = gate_up.data(),
                                                                   .rows = 1,
                                                                   .columns = 1,
                                                                   .dgate_up = dgate_up.data()}),
                absl::OkStatus());
      const float value = static_cast<float>(gate_up[0]);
      EXPECT_NEAR(static_cast<float>(y[0]), std::max(value, 0.f), 1e-7) << gate;
      // The slope of GELU by tanh is NaN where x^2 overflows, as in f32's definition.
      if (kind != ActivationKind::kGeluTanh || std::abs(value) < 1e18) {
        const double at_zero = kind == ActivationKind::kRelu ? 0 : 0.5;
        EXPECT_NEAR(static_cast<float>(dgate_up[0]), value == 0 ? at_zero : value > 0, 1e-7)
            << gate;
      }
      // The same result by other operations.
      EXPECT_NEAR(static_cast<float>(dgate_up[1]), static_cast<float>(y[0]),
                  8 * kRoundoff<TypeParam> * std::abs(static_cast<float>(y[0])) + 1e-37)
          << gate;
    }
  }
}

TYPED_TEST(GatedActivationCudaTest, AnyTensorMayBeUnaligned) {
  const ActivationKind kind = ActivationKind::kGeluTanh;
  for (int unaligned = 0; unaligned < 4; ++unaligned) {
    SCOPED_TRACE(unaligned);
    Problem<TypeParam> p(kind, {4, 64}, GuardAt::kStart);
    const auto at = [&](const auto& buffer, int i) { return buffer.data() + (i == unaligned); };
    ASSERT_EQ(
        cuda::GatedActivationForward<TypeParam>(
            nullptr,
            {.kind = kind, .gate_up = at(p.gate_up, 0), .rows = 3, .columns = 56, .y = at(p.y, 1)}),
        absl::OkStatus());
    ASSERT_EQ(cuda::GatedActivationBackward<TypeParam>(nullptr, {.kind = kind,
                                                                 .dy = at(p.dy, 2),
                                                                 .gate_up = at(p.gate_up, 0),
                                                                 .rows = 3,
                                                                 .columns = 56,
                                                                 .dgate_up = at(p.dgate_up, 3)}),
              absl::OkStatus());
    ExpectReference(kind, at(p.dy, 2), at(p.gate_up, 0), {3, 56}, at(p.y, 1), at(p.dgate_up, 3));
  }
}

TYPED_TEST(GatedActivationCudaTest, InPlaceAndInEveryOrderTheSameBits) {
  for (const ActivationKind kind : kActivationKinds) {
    for (const Size size : {Size{3, 1600}, Size{7, 1027}}) {
      Problem<TypeParam> p(kind, size, GuardAt::kStart);
      ASSERT_EQ(p.Forward(), absl::OkStatus());
      ASSERT_EQ(p.Backward(p.dgate_up.data()), absl::OkStatus());
      const std::vector<TypeParam> y = Copy(p.y), dgate_up = Copy(p.dgate_up);
      const ScopedRandomCudaOrder order(1);
      ASSERT_EQ(p.Forward(), absl::OkStatus());
      EXPECT_TRUE(SameBits(p.y, y));
      ASSERT_EQ(p.Backward(p.gate_up.data()), absl::OkStatus());
      EXPECT_TRUE(SameBits(p.gate_up, dgate_up));
    }
  }
}

}  // namespace
}  // namespace strake
