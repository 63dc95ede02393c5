#include "tools/kernels/step_launches.h"

#include <cstdint>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "train/plan/gpu_rates.h"
#include "train/plan/step_times.h"

namespace strake {
namespace {

// The emulated GPU's attention has other kernels than cuDNN's.
bool IsOfAttention(const std::string& kernel) {
  return absl::StrContains(kernel, "Attention") || absl::StrContains(kernel, "KeyValueGradient") ||
         absl::StrContains(kernel, "QueryGradient");
}

TEST(StepLaunchesTest, TheForecastCountsAsManyKernels) {
  for (const Step& step : H200Steps()) {
    const auto recorded = RecordStepLaunches(step);
    ASSERT_TRUE(recorded.ok()) << recorded.status();
    int64_t launches = 0;
    for (const auto& [launch, totals] : recorded->launches) {
      if (!IsOfAttention(launch.kernel)) launches += totals.times;
    }
    const auto times = ForecastStep(recorded->calls, GpuRates::H200());
    ASSERT_TRUE(times.ok()) << times.status();
    int64_t kernels = 0;
    for (const CallTimeRow& row : times->rows) {
      // What libraries launch has FLOPs.
      if (row.flops == 0 && row.name != "set to 0") kernels += row.kernels;
    }
    EXPECT_GT(kernels, 0);
    EXPECT_EQ(kernels, launches) << step.name;
  }
}

}  // namespace
}  // namespace strake
