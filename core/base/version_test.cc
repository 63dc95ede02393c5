#include "core/base/version.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::MatchesRegex;

TEST(VersionTest, IsThreeNumbers) {
  EXPECT_THAT(Version(), MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
}

TEST(VersionTest, EveryOptionIsNamed) {
  EXPECT_THAT(BuildConfiguration(),
              MatchesRegex("(opt|dbg|fastbuild), for CPUs with AVX(2|-512), "
                           "(no CUDA|CUDA for sm_[a-z0-9_ ]+), (no )?oneDNN, (Open|no) MPI"));
}

}  // namespace
}  // namespace strake
