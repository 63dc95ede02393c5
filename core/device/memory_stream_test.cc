#include "core/device/memory_stream.h"

#include "gtest/gtest.h"

namespace strake {
namespace {

// Any memory moves more than 0.1 GB/s, even when it is shared. None moves 10 TB/s for two threads,
// but a loop that was optimised away would appear to.
TEST(MemoryStreamTest, IsPlausible) {
  for (const int num_threads : {1, 2}) {
    ThreadTeam team(num_threads);
    MemoryStream stream(&team, size_t{64} << 20);
    for (int pass = 0; pass < 3; ++pass) {
      for (const double bytes_per_second : {stream.MeasurePass(), stream.MeasureReadPass()}) {
        EXPECT_GT(bytes_per_second, 1e8);
        EXPECT_LT(bytes_per_second, 1e13);
      }
    }
  }
}

}  // namespace
}  // namespace strake
