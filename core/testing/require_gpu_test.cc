#include "core/testing/require_gpu.h"

#include <cstdlib>
#include <string>

#include "core/cuda/cuda_runtime.h"
#include "gmock/gmock.h"
#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

std::string Arguments(const char* argument) {
  return std::string("a_test") + '\0' + argument + '\0' + "--gtest_color=no" + '\0';
}

TEST(RequireGpuTest, ByArgumentOrByVariable) {
  EXPECT_FALSE(GpuIsRequired(Arguments("x"), nullptr));
  EXPECT_FALSE(GpuIsRequired(Arguments("--require_gpus"), nullptr));
  EXPECT_FALSE(GpuIsRequired(Arguments("x--require_gpu"), ""));
  EXPECT_FALSE(GpuIsRequired(Arguments("x"), "0"));
  EXPECT_TRUE(GpuIsRequired(Arguments("--require_gpu"), nullptr));
  EXPECT_TRUE(GpuIsRequired(Arguments("x"), "1"));
}

using ::testing::ScopedFakeTestPartResultReporter;
using ::testing::TestPartResultArray;

// Records what RequireGpu() reports for a test, instead of reporting it for this one.
void AddVerdict(TestPartResultArray* results) {
  const ScopedFakeTestPartResultReporter reporter(
      ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, results);
  RequireGpu();
}

TEST(RequireGpuTest, SkipsOrFailsWithTheReason) {
  const std::string reason(SetCudaDevice(0).message());
  TestPartResultArray verdicts;
  unsetenv("STRAKE_REQUIRE_GPU");
  AddVerdict(&verdicts);
  setenv("STRAKE_REQUIRE_GPU", "1", 1);
  AddVerdict(&verdicts);
  if (reason.empty()) {
    EXPECT_EQ(verdicts.size(), 0);
    return;
  }
  ASSERT_EQ(verdicts.size(), 2);
  EXPECT_TRUE(verdicts.GetTestPartResult(0).skipped());
  EXPECT_TRUE(verdicts.GetTestPartResult(1).fatally_failed());
  for (const int i : {0, 1}) {
    EXPECT_THAT(verdicts.GetTestPartResult(i).message(), ::testing::HasSubstr(reason));
  }
}

}  // namespace
}  // namespace strake::testing
