#include "core/testing/emulated_gpu.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/cuda/cuda_runtime.h"
#include "core/testing/emulated_gpu_test_util.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

using EmulatedGpuDeathTest = EmulatedGpuTest;

TEST_F(EmulatedGpuDeathTest, TheHostCannotTouchDeviceMemory) {
  EXPECT_DEATH(device()[1] = 1,
               "device memory read or written by the host: byte 4 of `memory of GPU 0` "
               "\\(160 bytes\\)");
  volatile int sum = 0;
  EXPECT_DEATH(sum = sum + device()[0], "byte 0 of `memory of GPU 0`");
  ASSERT_TRUE(Add(first(), device(), 1, device()).ok());
  EXPECT_THAT(OnDevice(), Each(1));
  EXPECT_DEATH(sum = sum + device()[0], "byte 0 of `memory of GPU 0`");
}

TEST_F(EmulatedGpuTest, NothingRunsBeforeItIsWaitedFor) {
  ASSERT_TRUE(Add(first(), device(), 1, device()).ok());
  ASSERT_TRUE(CopyToHost(pinned(), device(), Bytes(), first()).ok());
  EXPECT_EQ(pinned()[0], 0);
  ASSERT_TRUE(SynchronizeCudaStream(second()).ok());
  EXPECT_EQ(pinned()[0], 0);
  ASSERT_TRUE(SynchronizeCudaStream(first()).ok());
  EXPECT_EQ(pinned()[0], 1);
  EXPECT_EQ(pinned()[kCount - 1], 1);
}

TEST_F(EmulatedGpuTest, PinnedMemoryIsReadLateAndOtherMemoryAtOnce) {
  std::fill_n(pinned(), kCount, 1);
  ASSERT_TRUE(CopyToDevice(device(), pinned(), Bytes(), first()).ok());
  std::fill_n(pinned(), kCount, 2);
  EXPECT_THAT(OnDevice(), Each(2));

  std::vector<int> pageable(kCount, 3);
  ASSERT_TRUE(CopyToDevice(device(), pageable.data(), Bytes(), first()).ok());
  std::fill(pageable.begin(), pageable.end(), 4);
  EXPECT_THAT(OnDevice(), Each(3));
}

TEST_F(EmulatedGpuTest, ACopyToOtherMemoryWaitsForItsStream) {
  ASSERT_TRUE(Add(first(), device(), 5, device()).ok());
  std::vector<int> pageable(kCount);
  ASSERT_TRUE(CopyToHost(pageable.data(), device(), Bytes(), first()).ok());
  EXPECT_THAT(pageable, Each(5));
}

TEST_F(EmulatedGpuTest, OnlyAnEventOrdersStreams) {
  for (const bool with_event : {false, true}) {
    std::fill_n(pinned(), kCount, 0);
    ASSERT_TRUE(SetBytesOnDevice(device(), 0, Bytes(), first()).ok());
    ASSERT_TRUE(SynchronizeCudaStream(first()).ok());
    auto event = CudaEvent::Create().value();
    ASSERT_TRUE(Add(first(), device(), 1, device()).ok());
    ASSERT_TRUE(event.Record(first()).ok());
    if (with_event) {
      ASSERT_TRUE(event.MakeWait(second()).ok());
    }
    ASSERT_TRUE(CopyToHost(pinned(), device(), Bytes(), second()).ok());
    ASSERT_TRUE(SynchronizeCudaStream(second()).ok());
    EXPECT_EQ(pinned()[0], with_event ? 1 : 0);
  }
}

TEST_F(EmulatedGpuTest, AnEventIsOfItsLastRecordBeforeTheWait) {
  auto event = CudaEvent::Create().value();
  EXPECT_TRUE(event.MakeWait(first()).ok());
  EXPECT_TRUE(event.Synchronize().ok());
  EXPECT_TRUE(event.Done().value());
  ASSERT_TRUE(Add(first(), device(), 1, device()).ok());
  ASSERT_TRUE(event.Record(first()).ok());
  ASSERT_TRUE(event.MakeWait(second()).ok());
  ASSERT_TRUE(Add(first(), device(), 1, device()).ok());
  ASSERT_TRUE(event.Record(first()).ok());
  ASSERT_TRUE(CopyToHost(pinned(), device(), Bytes(), second()).ok());
  ASSERT_TRUE(SynchronizeCudaStream(second()).ok());
  EXPECT_EQ(pinned()[0], 1);
}

TEST_F(EmulatedGpuTest, AnEventIsDoneAfterTheFirstQuestion) {
  auto event = CudaEvent::Create(CudaEventKind::kTiming).value();
  auto late = CudaEvent::Create(CudaEventKind::kTiming).value();
  ASSERT_TRUE(CopyToHost(pinned(), device(), Bytes(), first()).ok());
  ASSERT_TRUE(event.Record(first()).ok());
  ASSERT_TRUE(late.Record(first()).ok());
  EXPECT_THAT(Message(late.SecondsSince(event).status()), HasSubstr("cudaErrorNotReady"));
  EXPECT_FALSE(event.Done().value());
  EXPECT_TRUE(event.Done().value());
}

TEST_F(EmulatedGpuTest, OnlyEventsForTimingHaveATime) {
  auto plain = CudaEvent::Create().value();
  auto timed = CudaEvent::Create(CudaEventKind::kTiming).value();
  for (CudaEvent* const event : {&plain, &timed}) ASSERT_TRUE(event->Record(first()).ok());
  ASSERT_TRUE(SynchronizeCudaStream(first()).ok());
  EXPECT_TRUE(timed.SecondsSince(timed).ok());
  EXPECT_THAT(Message(timed.SecondsSince(plain).status()),
              HasSubstr("cudaErrorInvalidResourceHandle"));
  EXPECT_THAT(Message(plain.SecondsSince(timed).status()),
              HasSubstr("cudaErrorInvalidResourceHandle"));
}

TEST_F(EmulatedGpuTest, WhatALibraryCanAsk) {
  const auto high = CudaOwnStream::Create(CudaStreamPriority::kHigh);
  ASSERT_TRUE(high.ok());
  EXPECT_EQ(DescribeEmulatedStream(high->get()).priority, CudaStreamPriority::kHigh);
  EXPECT_EQ(DescribeEmulatedStream(first()).priority, CudaStreamPriority::kNormal);
  EXPECT_EQ(DescribeEmulatedStream(nullptr).device, CurrentEmulatedDevice());
  EXPECT_EQ(EmulatedDeviceOf(device(), Bytes()), 0);
  EXPECT_EQ(EmulatedDeviceOf(device(), Bytes() + 1), std::nullopt);
  EXPECT_EQ(EmulatedDeviceOf(pinned(), Bytes()), std::nullopt);
}

TEST_F(EmulatedGpuTest, FreeingWaits) {
  auto memory = CudaMemory::Allocate(Bytes());
  ASSERT_TRUE(memory.ok());
  ASSERT_TRUE(SetBytesOnDevice(memory->data(), 1, Bytes(), second()).ok());
  ASSERT_TRUE(CopyToHost(pinned(), memory->data(), Bytes(), second()).ok());
  memory = absl::CancelledError();
  EXPECT_EQ(pinned()[0], 0x01010101);
}

TEST_F(EmulatedGpuTest, AKernelsFaultStays) {
  const int n = kCount + 1;
  ASSERT_TRUE(Launch<AddKernel>(first(), 3, 32, 0, device() + 24, 1, n, device()).ok());
  EXPECT_TRUE(Add(first(), device(), 1, device()).ok());
  const absl::Status status = SynchronizeCudaStream(first());
  EXPECT_THAT(Message(status), HasSubstr("AddKernel, block (1, 0, 0), thread (8, 0, 0): accesses"));
  EXPECT_THAT(Message(status), HasSubstr("96 bytes past the end of `memory of GPU 0` (160 bytes)"));
  EXPECT_EQ(SynchronizeCudaStream(second()), status);
  EXPECT_EQ(Add(second(), device(), 1, device()), status);
  EXPECT_EQ(CudaMemory::Allocate(1).status(), status);
  EXPECT_EQ(LastCudaError(), status);
}

TEST_F(EmulatedGpuTest, ALaunchThatCannotBeIsAnErrorOfTheCall) {
  EXPECT_THAT(Message(Launch<AddKernel>(first(), 1, 2000, 0, device(), 1, kCount, device())),
              HasSubstr("cannot launch"));
  EXPECT_TRUE(SynchronizeCudaDevice().ok());
}

TEST_F(EmulatedGpuTest, CopiesCheckTheirMemory) {
  const std::vector<int> pageable(kCount);
  EXPECT_THAT(Message(CopyToDevice(pinned(), pageable.data(), Bytes(), first())),
              HasSubstr("cudaErrorInvalidValue"));
  EXPECT_THAT(Message(CopyToDevice(device(), pageable.data(), Bytes() + 4, first())),
              HasSubstr("cudaErrorInvalidValue"));
  EXPECT_THAT(Message(CopyOnDevice(device(), pageable.data(), Bytes(), first())),
              HasSubstr("cudaErrorInvalidValue"));
  EXPECT_THAT(Message(SetBytesOnDevice(pinned(), 0, Bytes(), first())),
              HasSubstr("cudaErrorInvalidValue"));
  EXPECT_TRUE(LastCudaError().ok());
}

TEST_F(EmulatedGpuTest, WorkOfALibrary) {
  ASSERT_TRUE(Add(first(), device(), 1, device()).ok());
  ASSERT_TRUE(EnqueueOnEmulatedGpu(first(), "twice", [data = device()] {
                for (int i = 0; i < kCount; ++i) data[i] *= 2;
                return absl::OkStatus();
              }).ok());
  EXPECT_THAT(OnDevice(), Each(2));
  ASSERT_TRUE(
      EnqueueOnEmulatedGpu(first(), "fails", [] { return absl::InternalError("badly"); }).ok());
  EXPECT_EQ(SynchronizeCudaDevice(), absl::InternalError("fails: badly"));
}

// Like an all-reduce: neither continues before both are there.
TEST_F(EmulatedGpuTest, WorkThatWaitsForAnotherStreams) {
  std::atomic<int> arrived{0};
  const auto meet = [&arrived, here = false]() mutable {
    if (!here) ++arrived;
    here = true;
    return arrived == 2 ? absl::OkStatus() : absl::UnavailableError("alone");
  };
  ASSERT_TRUE(EnqueueOnEmulatedGpu(first(), "meet", meet).ok());
  ASSERT_TRUE(EnqueueOnEmulatedGpu(second(), "meet", meet).ok());
  ASSERT_TRUE(SynchronizeCudaStream(first()).ok());

  arrived = 0;
  ASSERT_TRUE(EnqueueOnEmulatedGpu(first(), "meet", meet).ok());
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(EnqueueOnEmulatedGpu(second(), "meet", meet).ok());
  });
  EXPECT_TRUE(SynchronizeCudaStream(first()).ok());
  other.join();
  EXPECT_TRUE(SynchronizeCudaDevice().ok());
}

TEST_F(EmulatedGpuTest, ThreadsHaveStreamsOfTheirOwn) {
  const auto add = [&](CudaStream stream, int begin) {
    for (int i = 0; i < 20; ++i) {
      EXPECT_TRUE(Add(stream, device() + begin, 1, device() + begin, kCount / 2).ok());
      if (i % 3 == 0) {
        EXPECT_TRUE(SynchronizeCudaStream(stream).ok());
      }
    }
  };
  std::thread other(add, first(), 0);
  add(second(), kCount / 2);
  other.join();
  EXPECT_THAT(OnDevice(), Each(20));
}

TEST(EmulatedGpuOptionsTest, Drivers) {
  {
    const ScopedEmulatedGpu gpu({.driver_version = 0});
    EXPECT_THAT(Message(SetCudaDevice(0)), HasSubstr("no CUDA driver"));
  }
  {
    const ScopedEmulatedGpu gpu({.driver_version = 11040});
    EXPECT_THAT(Message(SetCudaDevice(0)), HasSubstr("serves CUDA up to 11.4"));
  }
  {
    const ScopedEmulatedGpu gpu({.num_devices = 0});
    EXPECT_THAT(Message(CudaDeviceCount().status()), HasSubstr("no GPU that it lets"));
  }
  {
    const ScopedEmulatedGpu gpu({.architecture = 75});
    EXPECT_THAT(Message(SetCudaDevice(0)), HasSubstr("sm_75, and this binary was built for sm_90"));
  }
  EXPECT_TRUE(SetCudaDevice(0).ok());
}

TEST(EmulatedGpuOptionsTest, MemoryOfEachDevice) {
  const ScopedEmulatedGpu gpu({.num_devices = 2, .memory_bytes = 1000});
  EXPECT_THAT(Message(SetCudaDevice(2)), HasSubstr("GPU 2 does not exist: there are 2"));
  const auto memory = CudaMemory::Allocate(600);
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(DescribeCudaDevice(0)->free_bytes, 400);
  EXPECT_THAT(Message(CudaMemory::Allocate(401).status()), HasSubstr("(400 bytes) free of"));
  const auto stream = CudaOwnStream::Create();
  ASSERT_TRUE(SetCudaDevice(1).ok());
  EXPECT_TRUE(CudaMemory::Allocate(1000).ok());
  auto* const data = static_cast<int*>(memory->data());
  EXPECT_THAT(Message(Add(stream->get(), data, 1, data)), HasSubstr("not of the current device"));
  ASSERT_TRUE(SetCudaDevice(0).ok());
}

TEST(EmulatedGpuOptionsDeathTest, TheEnvironmentIsReadOnce) {
  const auto allocate = [](const char* options) {
    setenv("STRAKE_EMULATED_GPU", options, 1);
    { const ScopedEmulatedGpu reread{EmulatedGpuOptions()}; }
    std::cerr << CudaMemory::Allocate(2 << 20).status();
    std::_Exit(1);
  };
  EXPECT_DEATH(allocate("devices=2,memory_mib=1"), "not enough memory on GPU 0: .* free of 0.00");
  EXPECT_DEATH(allocate("driver=0"), "no CUDA driver");
  EXPECT_DEATH(allocate("memory=1"), "STRAKE_EMULATED_GPU=memory=1: there is no memory");
}

TEST(EmulatedGpu, PassesLaunchesOnAndRunsNothing) {
  std::vector<CudaLaunch> launches;
  EmulatedGpuOptions options;
  options.memory_bytes = size_t{1} << 40;
  options.on_launch = [&](const CudaLaunch& launch) { launches.push_back(launch); };
  const ScopedEmulatedGpu gpu(options);
  const auto memory = CudaMemory::Allocate(size_t{1} << 38);
  ASSERT_TRUE(memory.ok()) << memory.status();
  const PinnedMemory pinned = PinnedMemory::Allocate(sizeof(int)).value();
  int* const device = static_cast<int*>(memory->data());
  ASSERT_TRUE(SetBytesOnDevice(device, 1, memory->num_bytes(), nullptr).ok());
  ASSERT_TRUE(Add(nullptr, device, 1, device).ok());
  ASSERT_TRUE(CopyToHost(pinned.data(), device, sizeof(int), nullptr).ok());
  ASSERT_TRUE(SynchronizeCudaDevice().ok());
  EXPECT_EQ(*static_cast<int*>(pinned.data()), 0);
  ASSERT_EQ(launches.size(), 1);
  EXPECT_THAT(launches[0].kernel, HasSubstr("AddKernel"));
  EXPECT_EQ(launches[0].grid.x, 2);
  EXPECT_EQ(launches[0].block.x, 32);
  EXPECT_EQ(launches[0].dynamic_shared_bytes, 0);
}

}  // namespace
}  // namespace strake::testing
