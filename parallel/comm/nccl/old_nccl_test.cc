#include <string>

#include "core/base/dynamic_library.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/nccl/nccl_communicator.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

TEST(OldNcclTest, IsNamedWithWhatIsNeeded) {
  // The name that is looked for is that of a library that is loaded by then.
  const auto nccl = DynamicLibrary::Load("NCCL", {"parallel/comm/nccl/libnccl.so.2"});
  ASSERT_TRUE(nccl.ok()) << nccl.status();
  const absl::Status status = CreateNcclWorld({.size = 1}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("libnccl.so.2 is NCCL 2.17.1, and 2.18 or later is needed"));
}

}  // namespace
}  // namespace strake
