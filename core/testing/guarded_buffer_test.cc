// Kernels on buffers in the emulator, where a GPU's driver takes the buffers' pages or refuses
// them.
#include "core/testing/guarded_buffer.h"

#include <cstdlib>
#include <vector>

#include "core/cuda/portable.h"
#include "gmock/gmock.h"
#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

using ::testing::Each;

int num_mapped = 0, num_allocated = 0;

constexpr GuardedMemoryHooks kTakes = {
    .mapped =
        [](void*, size_t) {
          ++num_mapped;
          return absl::OkStatus();
        },
    .unmapping = [](void*) { --num_mapped; },
};

constexpr GuardedMemoryHooks kRefuses = {
    .mapped = [](void*, size_t) { return absl::UnimplementedError("not in this sandbox"); },
    .unmapping = [](void*) { --num_mapped; },
    .allocate = [](size_t num_bytes) -> absl::StatusOr<void*> {
      ++num_allocated;
      return std::malloc(num_bytes);
    },
    .free =
        [](void* data) {
          --num_allocated;
          std::free(data);
        },
};

class GuardedBufferTest : public ::testing::TestWithParam<bool> {
 protected:
  GuardedBufferTest() { SetGuardedMemoryHooks(refuses() ? kRefuses : kTakes); }
  ~GuardedBufferTest() override {
    EXPECT_EQ(num_mapped, 0);
    EXPECT_EQ(num_allocated, 0);
    SetGuardedMemoryHooks({});
  }
  static bool refuses() { return GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Pages, GuardedBufferTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Refused" : "Taken"; });

__global__ void FillKernel(int value, int n, int* to) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) to[i] = value;
}

absl::Status Fill(int n, int* to) { return Launch<FillKernel>(nullptr, 4, 32, 0, 7, n, to); }

TEST_P(GuardedBufferTest, HostAndKernelSeeTheSame) {
  for (const GuardAt guard_at : {GuardAt::kStart, GuardAt::kEnd}) {
    const GuardedBuffer<int> x("x", 100, guard_at);
    EXPECT_EQ(num_allocated, refuses() ? 1 : 0);
    EXPECT_THAT(std::vector<int>(x.begin(), x.end()), Each(-1));
    ASSERT_TRUE(Fill(100, x.data()).ok());
    EXPECT_THAT(std::vector<int>(x.begin(), x.end()), Each(7));
    EXPECT_EQ(DescribeAddress(x.data() + 2), "byte 8 of `x` (400 bytes)");
    EXPECT_EQ(DescribeAddress(x.data() + 100), "0 bytes past the end of `x` (400 bytes)");
  }
  const GuardedBuffer<int> nothing("nothing", 0);
  EXPECT_EQ(nothing.size(), 0);
}

// A fault where there is a guard page, else a failure of the test when the buffer goes.
TEST_P(GuardedBufferTest, WritesPastBothEndsAreFound) {
  absl::Status at_end, at_start;
  const auto past_end = [&] {
    const GuardedBuffer<int> x("x", 64, GuardAt::kEnd);
    at_end = Fill(65, x.data());
  };
  const auto before_start = [&] {
    const GuardedBuffer<int> x("x", 64, GuardAt::kStart);
    at_start = Fill(1, x.data() - 1);
  };
  if (refuses()) {
    EXPECT_NONFATAL_FAILURE(past_end(), "written 0 bytes past the end of `x` (256 bytes)");
    EXPECT_NONFATAL_FAILURE(before_start(), "written 4 bytes before the start of `x` (256 bytes)");
  } else {
    past_end();
    before_start();
  }
  EXPECT_EQ(at_end.ok(), refuses());
  EXPECT_EQ(at_start.ok(), refuses());
}

}  // namespace
}  // namespace strake::testing
