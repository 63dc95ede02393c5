#include <string>

#include "core/base/dynamic_library.h"
#include "core/cuda/cuda_runtime.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

TEST(OldCudaDriverTest, IsNamedWithWhatIsNeeded) {
  // The runtime looks for libcuda.so.1, and by then a library of that name is loaded.
  const auto driver = DynamicLibrary::Load("the driver", {"core/cuda/libcuda.so.1"});
  ASSERT_TRUE(driver.ok()) << driver.status();
  const absl::Status status = CudaDeviceCount().status();
  if (absl::IsUnimplemented(status)) GTEST_SKIP() << status.message();
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("the CUDA driver is too old: it serves CUDA up to 11.4 and this binary"));
  EXPECT_EQ(SetCudaDevice(0), status);
}

}  // namespace
}  // namespace strake
