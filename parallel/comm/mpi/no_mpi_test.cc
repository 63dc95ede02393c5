#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/mpi/mpi_communicator.h"

namespace strake {
namespace {

TEST(NoMpiTest, TheErrorNamesThePackage) {
  const absl::Status status = MpiRuntime::Create().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              ::testing::HasSubstr("`apt-get install libopenmpi-dev`) and build again"));
}

}  // namespace
}  // namespace strake
