#include "core/cuda/cuda_runtime.h"

#include <algorithm>
#include <string>
#include <thread>

#include "core/base/status_macros.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

TEST(CudaRuntimeTest, DescribesItsDevices) {
  const auto num_devices = CudaDeviceCount();
  ASSERT_TRUE(num_devices.ok()) << num_devices.status();
  ASSERT_GT(*num_devices, 0);
  const auto device = DescribeCudaDevice(0);
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_FALSE(device->name.empty());
  EXPECT_GE(device->major, 8);
  EXPECT_GT(device->num_multiprocessors, 0);
  EXPECT_GT(device->free_bytes, 0);
  EXPECT_GE(device->total_bytes, device->free_bytes);
  EXPECT_THAT(std::string(SetCudaDevice(*num_devices).message()), HasSubstr("does not exist"));
  EXPECT_FALSE(DescribeCudaDevice(-1).ok());
}

TEST(CudaRuntimeTest, CopiesThereAndBack) {
  for (const size_t num_bytes : {size_t{0}, size_t{1}, size_t{1000003}}) {
    const auto sent = PinnedMemory::Allocate(num_bytes),
               received = PinnedMemory::Allocate(num_bytes);
    const auto first = CudaMemory::Allocate(num_bytes), second = CudaMemory::Allocate(num_bytes);
    const auto stream = CudaOwnStream::Create();
    ASSERT_TRUE(sent.ok() && received.ok() && first.ok() && second.ok() && stream.ok());
    auto* const from = static_cast<unsigned char*>(sent->data());
    auto* const to = static_cast<unsigned char*>(received->data());
    for (size_t i = 0; i < num_bytes; ++i) {
      from[i] = i * 7;
      to[i] = 0xff;
    }
    EXPECT_EQ(CopyToDevice(first->data(), from, num_bytes, stream->get()), absl::OkStatus());
    EXPECT_EQ(CopyOnDevice(second->data(), first->data(), num_bytes, stream->get()),
              absl::OkStatus());
    EXPECT_EQ(SetBytesOnDevice(second->data(), 0, num_bytes / 2, stream->get()), absl::OkStatus());
    EXPECT_EQ(CopyToHost(to, second->data(), num_bytes, stream->get()), absl::OkStatus());
    ASSERT_EQ(SynchronizeCudaStream(stream->get()), absl::OkStatus());
    for (size_t i = 0; i < num_bytes; ++i) {
      ASSERT_EQ(to[i], i < num_bytes / 2 ? 0 : static_cast<unsigned char>(i * 7)) << i;
    }
  }
}

TEST(CudaRuntimeTest, EventsOrderStreams) {
  constexpr size_t kBytes = 64 << 20;
  const auto memory = CudaMemory::Allocate(kBytes);
  const auto host = PinnedMemory::Allocate(kBytes);
  const auto first = CudaOwnStream::Create(), second = CudaOwnStream::Create();
  auto before = CudaEvent::Create(CudaEventKind::kTiming);
  auto after = CudaEvent::Create(CudaEventKind::kTiming);
  ASSERT_TRUE(memory.ok() && host.ok() && first.ok() && second.ok() && before.ok() && after.ok());
  auto* const data = static_cast<unsigned char*>(host->data());
  for (const unsigned char value : {1, 2, 3}) {
    std::fill_n(data, kBytes, value);
    ASSERT_EQ(before->Record(first->get()), absl::OkStatus());
    ASSERT_EQ(CopyToDevice(memory->data(), data, kBytes, first->get()), absl::OkStatus());
    ASSERT_EQ(after->Record(first->get()), absl::OkStatus());
    ASSERT_EQ(after->MakeWait(second->get()), absl::OkStatus());
    unsigned char last = 0;
    auto* const end = static_cast<unsigned char*>(memory->data()) + kBytes;
    ASSERT_EQ(CopyToHost(&last, end - 1, 1, second->get()), absl::OkStatus());
    ASSERT_EQ(SynchronizeCudaStream(second->get()), absl::OkStatus());
    EXPECT_EQ(last, value);
    ASSERT_EQ(after->Synchronize(), absl::OkStatus());
    const auto seconds = after->SecondsSince(*before);
    ASSERT_TRUE(seconds.ok()) << seconds.status();
    EXPECT_GT(*seconds, 0);
  }
}

TEST(CudaRuntimeTest, WaitingForAnEventThatNobodyRecordedIsNothing) {
  const auto event = CudaEvent::Create();
  const auto stream = CudaOwnStream::Create();
  ASSERT_TRUE(event.ok() && stream.ok());
  EXPECT_EQ(event->MakeWait(stream->get()), absl::OkStatus());
  EXPECT_EQ(event->Synchronize(), absl::OkStatus());
  EXPECT_TRUE(event->Done().value());
  EXPECT_FALSE(event->SecondsSince(*event).ok());
  EXPECT_EQ(LastCudaError(), absl::OkStatus());
}

TEST(CudaRuntimeTest, AnEventThatOnlyOrdersHasNoTime) {
  const auto stream = CudaOwnStream::Create(CudaStreamPriority::kHigh);
  auto event = CudaEvent::Create();
  ASSERT_TRUE(stream.ok() && event.ok());
  ASSERT_EQ(event->Record(stream->get()), absl::OkStatus());
  ASSERT_EQ(event->Synchronize(), absl::OkStatus());
  EXPECT_THAT(std::string(event->SecondsSince(*event).status().message()),
              HasSubstr("cudaErrorInvalidResourceHandle"));
  EXPECT_EQ(LastCudaError(), absl::OkStatus());
}

TEST(CudaRuntimeTest, AnEventThatIsAskedGetsDone) {
  constexpr size_t kBytes = 1 << 20;
  const auto memory = CudaMemory::Allocate(kBytes);
  const auto stream = CudaOwnStream::Create();
  auto event = CudaEvent::Create();
  ASSERT_TRUE(memory.ok() && stream.ok() && event.ok());
  ASSERT_EQ(SetBytesOnDevice(memory->data(), 5, kBytes, stream->get()), absl::OkStatus());
  ASSERT_EQ(event->Record(stream->get()), absl::OkStatus());
  while (!event->Done().value()) std::this_thread::yield();
  unsigned char byte = 0;
  EXPECT_EQ(CopyToHost(&byte, memory->data(), 1, nullptr), absl::OkStatus());
  EXPECT_EQ(SynchronizeCudaStream(nullptr), absl::OkStatus());
  EXPECT_EQ(byte, 5);
}

// Pinned memory that a graph copies to the device and back, through two streams.
class GraphOfCopies {
 public:
  absl::StatusOr<CudaGraph> Capture(bool join) {
    return CudaGraph::Capture(main_.get(), [&]() -> absl::Status {
      STRAKE_RETURN_IF_ERROR(CopyToDevice(memory_.data(), input_.data(), 4, main_.get()));
      STRAKE_RETURN_IF_ERROR(forked_.Record(main_.get()));
      STRAKE_RETURN_IF_ERROR(forked_.MakeWait(side_.get()));
      STRAKE_RETURN_IF_ERROR(CopyToHost(output_.data(), memory_.data(), 4, side_.get()));
      STRAKE_RETURN_IF_ERROR(joined_.Record(side_.get()));
      return join ? joined_.MakeWait(main_.get()) : absl::OkStatus();
    });
  }
  int& input() { return *static_cast<int*>(input_.data()); }
  int& output() { return *static_cast<int*>(output_.data()); }
  CudaStream stream() const { return main_.get(); }

 private:
  CudaMemory memory_ = CudaMemory::Allocate(4).value();
  PinnedMemory input_ = PinnedMemory::Allocate(4).value();
  PinnedMemory output_ = PinnedMemory::Allocate(4).value();
  CudaOwnStream main_ = CudaOwnStream::Create().value();
  CudaOwnStream side_ = CudaOwnStream::Create().value();
  CudaEvent forked_ = CudaEvent::Create().value();
  CudaEvent joined_ = CudaEvent::Create().value();
};

TEST(CudaGraphTest, RunsAtEachLaunchAndNotBefore) {
  GraphOfCopies copies;
  copies.input() = 1;
  copies.output() = 0;
  const auto graph = copies.Capture(/*join=*/true);
  ASSERT_TRUE(graph.ok()) << graph.status();
  ASSERT_EQ(SynchronizeCudaDevice(), absl::OkStatus());
  EXPECT_EQ(copies.output(), 0);
  for (const int value : {2, 3}) {
    copies.input() = value;
    ASSERT_EQ(graph->Launch(copies.stream()), absl::OkStatus());
    ASSERT_EQ(SynchronizeCudaStream(copies.stream()), absl::OkStatus());
    EXPECT_EQ(copies.output(), value);
  }
}

TEST(CudaGraphTest, WhatCannotBeCapturedIsNamed) {
  GraphOfCopies copies;
  EXPECT_THAT(std::string(copies.Capture(/*join=*/false).status().message()),
              HasSubstr("cudaErrorStreamCaptureUnjoined"));
  EXPECT_EQ(LastCudaError(), absl::OkStatus());

  absl::Status within;
  const auto graph = CudaGraph::Capture(copies.stream(), [&] {
    within = SynchronizeCudaStream(copies.stream());
    return absl::OkStatus();
  });
  EXPECT_THAT(std::string(within.message()), HasSubstr("cudaErrorStreamCaptureUnsupported"));
  EXPECT_FALSE(graph.ok());
  // The stream can be used again, and captured.
  EXPECT_EQ(SynchronizeCudaStream(copies.stream()), absl::OkStatus());
  EXPECT_TRUE(copies.Capture(/*join=*/true).ok());
}

TEST(CudaGraphTest, TheErrorOfWhatEnqueuesIsTheCaptures) {
  const auto stream = CudaOwnStream::Create();
  ASSERT_TRUE(stream.ok());
  const absl::Status error = absl::NotFoundError("no such thing");
  EXPECT_EQ(CudaGraph::Capture(stream->get(), [&] { return error; }).status(), error);
  EXPECT_EQ(SynchronizeCudaStream(stream->get()), absl::OkStatus());
}

TEST(CudaRuntimeTest, TooMuchMemoryIsAnErrorWithBothFigures) {
  const auto device = DescribeCudaDevice(0);
  ASSERT_TRUE(device.ok()) << device.status();
  const absl::Status status = CudaMemory::Allocate(device->total_bytes * 2).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("(" + std::to_string(device->total_bytes * 2) + " bytes) wanted"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(" free of "));
  // The error is forgotten, and memory that exists can be allocated.
  EXPECT_EQ(LastCudaError(), absl::OkStatus());
  EXPECT_TRUE(CudaMemory::Allocate(1).ok());
}

TEST(CudaRuntimeTest, AFailedCallIsNamed) {
  const absl::Status status = CopyOnDevice(nullptr, nullptr, 8, nullptr);
  EXPECT_THAT(std::string(status.message()), HasSubstr("cudaMemcpyAsync"));
  EXPECT_THAT(std::string(status.message()), ContainsRegex("core/.*cuda_.*[.]cc:"));
  EXPECT_EQ(LastCudaError(), absl::OkStatus());
}

}  // namespace
}  // namespace strake
