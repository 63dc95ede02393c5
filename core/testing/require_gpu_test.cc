#include "core/testing/require_gpu.h"

#include <string>

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

}  // namespace
}  // namespace strake::testing
