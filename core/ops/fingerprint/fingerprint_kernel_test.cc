// The CUDA kernel of fingerprints, under the emulator and on a GPU, against
// core/base/fingerprint.h.
#include <algorithm>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/fingerprint.h"
#include "core/ops/fingerprint/fingerprint_cuda.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::ScopedRandomCudaOrder;

struct Size {
  int64_t rows, columns, stride;
};
// Ragged and vectorized rows, more and fewer columns than a warp takes at a time, and more units
// than warps: 1056 blocks of 8.
constexpr Size kSizes[] = {{1, 1, 1},       {1, 1027, 1027}, {3, 512, 512},
                           {5, 1024, 1152}, {33, 132, 136},  {7, 3, 5},
                           {0, 4, 4},       {4, 0, 4},       {2113, 520, 520}};
constexpr FingerprintPlace kPlace = {.key = 0xfedcba9876543210, .row = 1000, .column = 70000};

template <typename T>
Fingerprint Reference(const T* x, const Size& size) {
  Fingerprint sum;
  for (int64_t row = 0; row < size.rows; ++row) {
    std::vector<float> values(x + row * size.stride, x + row * size.stride + size.columns);
    sum += FingerprintOfRow({kPlace.key, kPlace.row + row, kPlace.column}, values.data(),
                            size.columns);
  }
  return sum;
}

template <typename T>
class FingerprintCudaTest : public ::testing::Test {};
using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(FingerprintCudaTest, Types);

TYPED_TEST(FingerprintCudaTest, HasTheBitsOfTheReference) {
  for (const Size& size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(::testing::Message() << size.rows << " x " << size.columns);
      const int64_t count = std::max<int64_t>(0, (size.rows - 1) * size.stride + size.columns);
      const GuardedBuffer<TypeParam> x("x", count, guard_at);
      FillNormal(x, 1);
      GuardedBuffer<uint64_t> sums("sums", 2 * cuda::kFingerprintBlocks);
      std::fill(sums.begin(), sums.end(), 0);
      const ScopedRandomCudaOrder order(count);
      for (int64_t calls = 1; calls <= 2; ++calls) {
        ASSERT_EQ(cuda::AddFingerprint<TypeParam>(nullptr, {.x = x.data(),
                                                            .place = kPlace,
                                                            .rows = size.rows,
                                                            .columns = size.columns,
                                                            .stride = size.stride,
                                                            .sums = sums.data()}),
                  absl::OkStatus());
        Fingerprint total, expected;
        for (size_t i = 0; i < sums.size(); ++i) total.lanes[i % 2] += sums[i];
        for (int64_t call = 0; call < calls; ++call) expected += Reference(x.data(), size);
        EXPECT_EQ(total, expected);
        EXPECT_EQ(expected == Fingerprint(), size.rows * size.columns == 0);
      }
    }
  }
}

}  // namespace
}  // namespace strake
