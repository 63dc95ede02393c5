#include "core/device/cuda_op_profile.h"

#include <chrono>

#include "core/device/cuda_context.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

// Makes `times` passes over the memory.
void Clear(OpProfile* profile, const char* op, const CudaMemory& memory, int times,
           CudaStream stream) {
  const OpTimer timer(profile, op, Pass::kForward, {.flops = 1.0 * times, .bytes = 2.0 * times});
  for (int i = 0; i < times; ++i) {
    EXPECT_TRUE(SetBytesOnDevice(memory.data(), 0, memory.num_bytes(), stream).ok());
  }
}

TEST(CudaOpProfileTest, AddsWhatTheGpuTookOnceItIsDone) {
  const auto cuda = CudaContext::Create(0);
  ASSERT_TRUE(cuda.ok()) << cuda.status();
  const CudaStream stream = (*cuda)->stream();
  const auto memory = CudaMemory::Allocate(size_t{64} << 20);
  ASSERT_TRUE(memory.ok()) << memory.status();
  Clear(nullptr, "warm_up", *memory, 1, stream);
  ASSERT_TRUE(SynchronizeCudaStream(stream).ok());

  CudaOpProfile profile(stream);
  const auto start = std::chrono::steady_clock::now();
  for (int64_t step = 1; step <= 2; ++step) {
    Clear(&profile, "one", *memory, 1, stream);
    Clear(&profile, "eight", *memory, 8, stream);
    EXPECT_EQ(profile.entries().size(), step == 1 ? 0 : 2) << "nothing new before Resolve()";
    ASSERT_TRUE(profile.Resolve().ok());
    ASSERT_EQ(profile.entries().size(), 2);
    const OpProfile::Entry& one = profile.entries().at({"one", Pass::kForward});
    const OpProfile::Entry& eight = profile.entries().at({"eight", Pass::kForward});
    EXPECT_EQ(one.calls, step);
    EXPECT_EQ(eight.calls, step);
    EXPECT_EQ(eight.cost.flops, 8 * step);
    EXPECT_EQ(eight.cost.bytes, 16 * step);
    EXPECT_GT(one.seconds, 0);
    const std::chrono::duration<double> all = std::chrono::steady_clock::now() - start;
    EXPECT_LE(one.seconds + eight.seconds, all.count());
  }

  // Each measurement may have been disturbed.
  bool grows_with_the_work = false;
  for (int attempt = 0; attempt < 50 && !grows_with_the_work; ++attempt) {
    CudaOpProfile again(stream);
    Clear(&again, "one", *memory, 1, stream);
    Clear(&again, "eight", *memory, 8, stream);
    ASSERT_TRUE(again.Resolve().ok());
    const auto seconds = [&](const char* op) {
      return again.entries().at({op, Pass::kForward}).seconds;
    };
    grows_with_the_work = seconds("eight") > 2 * seconds("one");
  }
  EXPECT_TRUE(grows_with_the_work);
}

TEST(CudaOpProfileTest, ResolvesNothing) {
  const auto cuda = CudaContext::Create(0);
  ASSERT_TRUE(cuda.ok()) << cuda.status();
  CudaOpProfile profile((*cuda)->stream());
  ASSERT_TRUE(profile.Resolve().ok());
  EXPECT_TRUE(profile.entries().empty());
}

}  // namespace
}  // namespace strake
