#include "core/cuda/cuda_runtime.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(NoCudaRuntimeTest, OneSentence) {
  const absl::Status expected =
      absl::UnimplementedError("this build has no CUDA: build with --config=cuda");
  EXPECT_EQ(CudaDeviceCount().status(), expected);
  EXPECT_EQ(DescribeCudaDevice(0).status(), expected);
  EXPECT_EQ(SetCudaDevice(0), expected);
  EXPECT_EQ(CudaMemory::Allocate(1).status(), expected);
  EXPECT_EQ(PinnedMemory::Allocate(1).status(), expected);
  EXPECT_EQ(CudaOwnStream::Create().status(), expected);
  EXPECT_EQ(CudaEvent::Create().status(), expected);
}

}  // namespace
}  // namespace strake
