#include "core/testing/cublaslt_contract/interface.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

using ::testing::ElementsAreArray;

TEST(CublasLtInterfaceTest, IsTheToolkits) {
  const Interface toolkit = ToolkitInterface();
  if (toolkit.empty()) GTEST_SKIP() << "no CUDA toolkit: build with --config=cuda";
  EXPECT_GT(toolkit.size(), 60u);
  EXPECT_THAT(ContractInterface(), ElementsAreArray(toolkit));
}

}  // namespace
}  // namespace strake::testing
