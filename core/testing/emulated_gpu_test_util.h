// What the tests of the emulated GPU share.
#ifndef STRAKE_CORE_TESTING_EMULATED_GPU_TEST_UTIL_H_
#define STRAKE_CORE_TESTING_EMULATED_GPU_TEST_UTIL_H_

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/cuda/cuda_runtime.h"
#include "core/cuda/portable.h"
#include "core/testing/emulated_gpu.h"
#include "gtest/gtest.h"

namespace strake::testing {

inline constexpr int kCount = 40;

inline __global__ void AddKernel(const int* from, int value, int n, int* to) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) to[i] = from[i] + value;
}

inline absl::Status Add(CudaStream stream, const int* from, int value, int* to, int n = kCount) {
  return Launch<AddKernel>(stream, 2, 32, 0, from, value, n, to);
}

inline std::string Message(const absl::Status& status) { return std::string(status.message()); }

// Device and pinned memory of kCount ints, and two streams.
class EmulatedGpuTest : public ::testing::Test {
 protected:
  EmulatedGpuTest() {
    std::fill_n(pinned(), kCount, 0);
    EXPECT_TRUE(SetBytesOnDevice(device(), 0, Bytes(), first()).ok());
    EXPECT_TRUE(SynchronizeCudaDevice().ok());
  }

  static size_t Bytes() { return kCount * sizeof(int); }
  int* device() const { return static_cast<int*>(device_.data()); }
  int* pinned() const { return static_cast<int*>(pinned_.data()); }
  CudaStream first() const { return first_.get(); }
  CudaStream second() const { return second_.get(); }
  // Runs everything first.
  std::vector<int> OnDevice() const {
    EXPECT_TRUE(SynchronizeCudaDevice().ok());
    std::vector<int> values(kCount);
    EXPECT_TRUE(CopyToHost(values.data(), device(), Bytes(), first()).ok());
    return values;
  }

 private:
  ScopedEmulatedGpu gpu_{EmulatedGpuOptions()};  // forgets a test's faults on destruction
  CudaMemory device_ = CudaMemory::Allocate(Bytes()).value();
  PinnedMemory pinned_ = PinnedMemory::Allocate(Bytes()).value();
  CudaOwnStream first_ = CudaOwnStream::Create().value();
  CudaOwnStream second_ = CudaOwnStream::Create().value();
};

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_EMULATED_GPU_TEST_UTIL_H_
