#include "core/device/fma_peak.h"

#include "gtest/gtest.h"

namespace strake {
namespace {

// Any core with AVX2 and FMA does more than 1 operation per nanosecond, even when it is shared.
// None does 1000, but a loop that was optimised away would appear to.
TEST(FmaPeakTest, IsPlausible) {
  for (const int num_threads : {1, 2}) {
    ThreadTeam team(num_threads);
    // One window is measured however short the time is.
    for (const double flops :
         {MeasureFmaPeakFlops(team), MeasureBf16PeakFlops(team), MeasureFmaPeakFlops(team, 0)}) {
      EXPECT_GT(flops, 1e9);
      EXPECT_LT(flops, 1e12 * num_threads);
    }
  }
}

}  // namespace
}  // namespace strake
