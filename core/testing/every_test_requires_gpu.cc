// Calls RequireGpu() before every test of the binary that links this.
#include "core/testing/require_gpu.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

class RequireGpuForEveryTest : public ::testing::EmptyTestEventListener {
  // The test's result already exists here, so a test that is skipped or failed here does not run.
  void OnTestStart(const ::testing::TestInfo&) override { RequireGpu(); }
};

[[maybe_unused]] const bool added = [] {
  ::testing::UnitTest::GetInstance()->listeners().Append(new RequireGpuForEveryTest);
  return true;
}();

}  // namespace
}  // namespace strake::testing
