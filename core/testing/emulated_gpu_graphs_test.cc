#include "core/testing/emulated_gpu_graphs.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/emulated_gpu.h"
#include "core/testing/emulated_gpu_test_util.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::SizeIs;

using EmulatedGraphTest = EmulatedGpuTest;

TEST_F(EmulatedGraphTest, AGraphReadsPinnedMemoryAtEachLaunch) {
  const auto graph = CudaGraph::Capture(first(), [&]() -> absl::Status {
    EXPECT_TRUE(CopyToDevice(device(), pinned(), Bytes(), first()).ok());
    return Add(first(), device(), 10, device());
  });
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_THAT(OnDevice(), Each(0));
  for (const int value : {1, 2}) {
    std::fill_n(pinned(), kCount, value);
    ASSERT_TRUE(graph->Launch(second()).ok());
    EXPECT_THAT(OnDevice(), Each(10 + value));
  }
}

TEST_F(EmulatedGraphTest, AGraphHasTheStreamsThatJoin) {
  auto fork = CudaEvent::Create().value(), join = CudaEvent::Create().value();
  for (const bool joined : {true, false}) {
    const auto graph = CudaGraph::Capture(first(), [&]() -> absl::Status {
      EXPECT_TRUE(fork.Record(first()).ok());
      EXPECT_TRUE(fork.MakeWait(second()).ok());
      EXPECT_TRUE(Add(second(), device(), 1, device()).ok());
      EXPECT_TRUE(join.Record(second()).ok());
      if (joined) {
        EXPECT_TRUE(join.MakeWait(first()).ok());
      }
      return Add(first(), device(), 2, device());
    });
    if (joined) {
      ASSERT_TRUE(graph.ok()) << graph.status();
      ASSERT_TRUE(graph->Launch(first()).ok());
    } else {
      EXPECT_THAT(Message(graph.status()), HasSubstr("cudaErrorStreamCaptureUnjoined"));
    }
  }
  EXPECT_THAT(Message(join.Synchronize()), HasSubstr("cudaErrorCapturedEvent"));
  EXPECT_THAT(OnDevice(), Each(3));
}

TEST_F(EmulatedGraphTest, WhatEndsACapture) {
  std::vector<int> pageable(kCount);
  auto event = CudaEvent::Create().value();
  ASSERT_TRUE(event.Record(second()).ok());
  auto memory = CudaMemory::Allocate(8);
  const std::vector<std::function<absl::Status()>> calls = {
      [&] { return SynchronizeCudaStream(first()); },
      [&] { return SynchronizeCudaDevice(); },
      [&] { return event.Synchronize(); },
      [&] { return event.Done().status(); },
      [&] { return CudaMemory::Allocate(8).status(); },
      [&] { return PinnedMemory::Allocate(8).status(); },
      [&] { return CopyToDevice(device(), pageable.data(), Bytes(), first()); },
      [&] { return CopyToHost(pageable.data(), device(), Bytes(), first()); },
      [&] {
        memory = absl::CancelledError();
        return Add(first(), device(), 1, device());
      },
  };
  for (const auto& call : calls) {
    const auto graph = CudaGraph::Capture(first(), [&] {
      EXPECT_THAT(Message(call()), HasSubstr("cudaErrorStreamCaptureUnsupported"));
      return absl::OkStatus();
    });
    EXPECT_THAT(Message(graph.status()), HasSubstr("cudaErrorStreamCaptureUnsupported"));
  }
  EXPECT_THAT(OnDevice(), Each(0));
}

TEST_F(EmulatedGraphTest, WaitingForWorkOutsideOfTheCaptureIsAnError) {
  auto event = CudaEvent::Create().value();
  ASSERT_TRUE(event.Record(second()).ok());
  const auto graph = CudaGraph::Capture(first(), [&] { return event.MakeWait(first()); });
  EXPECT_THAT(Message(graph.status()), HasSubstr("cudaErrorStreamCaptureIsolation"));
}

TEST_F(EmulatedGraphTest, AnotherThreadCannotWaitForADeviceThatCaptures) {
  const auto graph = CudaGraph::Capture(first(), [&] {
    std::thread([&] {
      EXPECT_TRUE(SynchronizeCudaStream(second()).ok());
      EXPECT_THAT(Message(SynchronizeCudaDevice()), HasSubstr("cudaErrorStreamCaptureUnsupported"));
    }).join();
    return absl::OkStatus();
  });
  EXPECT_FALSE(graph.ok());
}

// NCCL launches from a thread of its own.
TEST_F(EmulatedGraphTest, AnotherThreadAddsToTheCaptureAndMayAllocate) {
  const auto graph = CudaGraph::Capture(first(), [&] {
    std::thread([&] {
      EXPECT_TRUE(Add(first(), device(), 3, device()).ok());
      EXPECT_TRUE(CudaMemory::Allocate(8).ok());
      EXPECT_NE(DescribeEmulatedStream(first()).capture, 0);
    }).join();
    return absl::OkStatus();
  });
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(DescribeEmulatedStream(first()).capture, 0);
  EXPECT_THAT(OnDevice(), Each(0));
  ASSERT_TRUE(graph->Launch(first()).ok());
  EXPECT_THAT(OnDevice(), Each(3));
}

// --- The order of a launch. ---

// The second stream adds up, and then copies what the first stream added last.
class TwoStreams {
 public:
  TwoStreams(CudaStream first, CudaStream second) : first_(first), second_(second) {
    EXPECT_TRUE(SetBytesOnDevice(memory_.data(), 0, 3 * kCount * sizeof(int), first).ok());
    EXPECT_TRUE(SynchronizeCudaStream(first).ok());
  }

  absl::StatusOr<CudaGraph> Capture(bool with_event) {
    return CudaGraph::Capture(first_, [&, this]() -> absl::Status {
      STRAKE_RETURN_IF_ERROR(fork_.Record(first_));
      STRAKE_RETURN_IF_ERROR(fork_.MakeWait(second_));
      for (int i = 0; i < 5; ++i) STRAKE_RETURN_IF_ERROR(Add(second_, At(1), 1, At(1)));
      for (int i = 0; i < 2; ++i) STRAKE_RETURN_IF_ERROR(Add(first_, At(0), 1, At(0)));
      STRAKE_RETURN_IF_ERROR(added_.Record(first_));
      if (with_event) STRAKE_RETURN_IF_ERROR(added_.MakeWait(second_));
      STRAKE_RETURN_IF_ERROR(Add(second_, At(0), 0, At(2)));
      STRAKE_RETURN_IF_ERROR(join_.Record(second_));
      return join_.MakeWait(first_);
    });
  }

  // All that the graph computes.
  std::vector<int> Values() const {
    std::vector<int> values(3 * kCount);
    EXPECT_TRUE(
        CopyToHost(values.data(), memory_.data(), values.size() * sizeof(int), first_).ok());
    return values;
  }

 private:
  int* At(int i) const { return static_cast<int*>(memory_.data()) + i * kCount; }

  const CudaStream first_, second_;
  const CudaMemory memory_ = CudaMemory::Allocate(3 * kCount * sizeof(int)).value();
  CudaEvent fork_ = CudaEvent::Create().value(), added_ = CudaEvent::Create().value();
  CudaEvent join_ = CudaEvent::Create().value();
};

// The different results of a few launches each.
std::set<std::vector<std::vector<int>>> ResultsOfSeeds(bool with_event, CudaStream first,
                                                       CudaStream second) {
  std::set<std::vector<std::vector<int>>> results;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    const ScopedEmulatedGpu gpu({.seed = seed});
    TwoStreams streams(first, second);
    const auto graph = streams.Capture(with_event);
    EXPECT_TRUE(graph.ok()) << graph.status();
    std::vector<std::vector<int>> values;
    for (int launch = 0; graph.ok() && launch < 8; ++launch) {
      EXPECT_TRUE(graph->Launch(first).ok());
      values.push_back(streams.Values());
    }
    results.insert(std::move(values));
  }
  return results;
}

TEST_F(EmulatedGraphTest, ACorrectGraphComputesTheSameInEveryOrder) {
  EXPECT_THAT(ResultsOfSeeds(/*with_event=*/true, first(), second()), SizeIs(1));
}

TEST_F(EmulatedGraphTest, AMissingEventShows) {
  EXPECT_GT(ResultsOfSeeds(/*with_event=*/false, first(), second()).size(), 1);
  // With any seed, within two launches.
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    const ScopedEmulatedGpu gpu({.seed = seed});
    TwoStreams streams(first(), second());
    const auto graph = streams.Capture(/*with_event=*/false);
    ASSERT_TRUE(graph.ok()) << graph.status();
    bool shown = false;
    for (int launch = 1; launch <= 2; ++launch) {
      ASSERT_TRUE(graph->Launch(first()).ok());
      shown = shown || streams.Values()[2 * kCount] != 2 * launch;
    }
    EXPECT_TRUE(shown) << "seed " << seed;
  }
}

// The nodes of a launch, in the order in which they ran.
std::vector<int> OrderOf(const std::vector<EmulatedNode>& nodes, uint64_t seed) {
  std::vector<int> order;
  std::vector<EmulatedNode> recorded = nodes;
  for (size_t i = 0; i < nodes.size(); ++i) {
    recorded[i].run = [&order, i] {
      order.push_back(static_cast<int>(i));
      return absl::OkStatus();
    };
  }
  EmulatedGraphLaunch launch(std::make_shared<const std::vector<EmulatedNode>>(recorded), seed, 3);
  EXPECT_EQ(launch.Run(), absl::OkStatus());
  return order;
}

TEST(EmulatedGraphLaunchTest, EveryOrderThatTheEdgesAllow) {
  const std::vector<EmulatedNode> diamond = {
      {.run = nullptr, .after = {}},
      {.run = nullptr, .after = {0}},
      {.run = nullptr, .after = {0}},
      {.run = nullptr, .after = {1, 2}},
  };
  std::set<std::vector<int>> orders;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    orders.insert(OrderOf(diamond, seed));
    EXPECT_EQ(OrderOf(diamond, seed), OrderOf(diamond, seed));
  }
  EXPECT_EQ(orders, (std::set<std::vector<int>>{{0, 1, 2, 3}, {0, 2, 1, 3}}));
}

TEST(EmulatedGraphLaunchTest, NodesThatWaitLetOthersRunFirst) {
  bool may_run = false;
  int num_run = 0;
  const auto run = [&] {
    ++num_run;
    return absl::OkStatus();
  };
  const auto wait = [&] { return may_run ? run() : absl::UnavailableError("not yet"); };
  const std::vector<EmulatedNode> nodes = {
      {.run = wait, .after = {}}, {.run = run, .after = {}}, {.run = run, .after = {0}}};
  EmulatedGraphLaunch launch(std::make_shared<const std::vector<EmulatedNode>>(nodes), 1, 1);
  EXPECT_TRUE(absl::IsUnavailable(launch.Run()));
  EXPECT_EQ(num_run, 1);
  may_run = true;
  EXPECT_EQ(launch.Run(), absl::OkStatus());
  EXPECT_EQ(num_run, 3);
  EXPECT_EQ(launch.Run(), absl::OkStatus());
  EXPECT_EQ(num_run, 6);
}

TEST(EmulatedGraphLaunchTest, AnErrorNamesWhatRepeatsIt) {
  const std::vector<EmulatedNode> nodes = {
      {.run = [] { return absl::InternalError("badly"); }, .after = {}}};
  EmulatedGraphLaunch launch(std::make_shared<const std::vector<EmulatedNode>>(nodes), 7, 3);
  EXPECT_EQ(launch.Run(), absl::InternalError("badly (node 0 of 1 of a graph, in the order of "
                                              "launch 3 with seed 7)"));
}

}  // namespace
}  // namespace strake::testing
