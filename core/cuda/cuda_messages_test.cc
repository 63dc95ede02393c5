#include "core/cuda/cuda_messages.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

TEST(CudaMessagesTest, DriverMissingOrTooOld) {
  EXPECT_THAT(Text(CudaDriverTooOld(0, 13000)),
              AllOf(HasSubstr("no CUDA driver"), HasSubstr("libcuda.so.1"), Not(HasSubstr("0.0"))));
  EXPECT_THAT(Text(CudaDriverTooOld(12040, 13000)),
              AllOf(HasSubstr("too old"), HasSubstr("up to 12.4 "), HasSubstr("needs 13.0;")));
}

TEST(CudaMessagesTest, NoGpu) {
  EXPECT_THAT(Text(NoCudaDevice(nullptr)), Not(HasSubstr("CUDA_VISIBLE_DEVICES")));
  EXPECT_THAT(Text(NoCudaDevice("")), HasSubstr("CUDA_VISIBLE_DEVICES="));
  EXPECT_THAT(Text(NoCudaDevice("7")), HasSubstr("CUDA_VISIBLE_DEVICES=7"));
  EXPECT_EQ(Text(NoSuchCudaDevice(2, 2)), "GPU 2 does not exist: there are 2, counted from 0");
}

TEST(CudaMessagesTest, ArchitectureNamesTheFlag) {
  EXPECT_EQ(Text(CudaArchitectureNotBuilt(1, "NVIDIA T4", 7, 5, "sm_80, sm_90a")),
            "GPU 1 (NVIDIA T4) is of architecture sm_75, and this binary was built for sm_80, "
            "sm_90a; build with --config=cuda --@strake_cuda//:architectures=sm_75");
}

TEST(CudaMessagesTest, MemoryHasBothFigures) {
  const absl::Status status = NotEnoughCudaMemory(0, 3ull << 30, 1ull << 29, 1ull << 34);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Text(status),
            "not enough memory on GPU 0: 3.00 GiB (3221225472 bytes) wanted, 0.50 GiB (536870912 "
            "bytes) free of 16.00 GiB (17179869184 bytes)");
}

TEST(CudaMessagesTest, FailedCall) {
  EXPECT_EQ(Text(CudaCallFailed("cudaFree(p)", "cudaErrorInvalidValue", "invalid argument",
                                "core/a.cc", 12)),
            "cudaFree(p): invalid argument (cudaErrorInvalidValue) at core/a.cc:12");
}

}  // namespace
}  // namespace strake
