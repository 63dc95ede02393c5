// One thread calls for both ranks of a communicator, since nothing blocks.
#include "parallel/comm/testing/nccl/contract_nccl.h"

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/emulated_gpu.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr NcclType kFloat = NcclType::kFloat32;
constexpr NcclResult kSuccess = NcclResult::kSuccess, kInProgress = NcclResult::kInProgress;
constexpr NcclResult kInvalidArgument = NcclResult::kInvalidArgument;
constexpr NcclResult kInvalidUsage = NcclResult::kInvalidUsage;

class ContractNcclTest : public ::testing::Test {
 protected:
  ContractNcclTest() {
    NcclUniqueId id;
    EXPECT_EQ(nccl_.get_unique_id(&id), kSuccess);
    for (int rank = 0; rank < 2; ++rank) {
      NcclConfig config;
      EXPECT_EQ(nccl_.comm_init_rank_config(&comms_[rank], 2, id, rank, &config), kInProgress);
    }
    for (int rank = 0; rank < 2; ++rank) EXPECT_EQ(Poll(rank), kSuccess);
  }

  // Aborts what a test has left, and forgets what it has found.
  ~ContractNcclTest() override {
    SetNcclBehavior({});
    (void)NcclMisuses();
    for (const NcclComm comm : comms_) (void)nccl_.comm_abort(comm);
    (void)NcclMisuses();
  }

  // The state after progress.
  NcclResult Poll(int rank) {
    NcclResult state = kInProgress;
    while (state == kInProgress) {
      EXPECT_EQ(nccl_.comm_get_async_error(comms_[rank], &state), kSuccess);
    }
    return state;
  }

  // Calls in a group, as NcclWorld does; the state after it.
  NcclResult Group(int rank, const std::function<NcclResult()>& calls) {
    EXPECT_EQ(nccl_.group_start(), kSuccess);
    (void)calls();
    const NcclResult ended = nccl_.group_end();
    return ended == kInProgress ? Poll(rank) : ended;
  }
  NcclResult AllReduce(int rank, size_t count, NcclType type = kFloat, NcclOp op = NcclOp::kSum) {
    return nccl_.all_reduce(At(rank), At(rank), count, type, op, comms_[rank], Stream(rank));
  }
  NcclResult Broadcast(int rank, size_t count, int root) {
    return nccl_.broadcast(At(rank), At(rank), count, kFloat, root, comms_[rank], Stream(rank));
  }

  // Memory of a rank, 256 floats.
  float* At(int rank, size_t element = 0) const {
    return static_cast<float*>(memory_.data()) + 256 * rank + element;
  }
  CudaStream Stream(int rank) const { return streams_[rank].get(); }

  const NcclLibrary& nccl_ = ContractNccl();
  ScopedEmulatedGpu gpu_{EmulatedGpuOptions()};
  CudaMemory memory_ = CudaMemory::Allocate(512 * sizeof(float)).value();
  CudaOwnStream streams_[2] = {CudaOwnStream::Create().value(), CudaOwnStream::Create().value()};
  NcclComm comms_[2] = {nullptr, nullptr};
};

void ExpectMisuse(const std::string& text) {
  EXPECT_THAT(NcclMisuses(), Contains(HasSubstr(text)));
}

TEST_F(ContractNcclTest, AGroupIsStartedAndEnded) {
  ASSERT_EQ(nccl_.group_start(), kSuccess);
  EXPECT_EQ(AllReduce(0, 4), kSuccess);
  ExpectMisuse("ncclGroupStart: has no ncclGroupEnd");
  EXPECT_EQ(nccl_.group_end(), kInvalidUsage);
  ExpectMisuse("ncclGroupEnd: has no ncclGroupStart");
  std::thread([&] { EXPECT_EQ(nccl_.group_start(), kSuccess); }).join();
  ExpectMisuse("ncclGroupStart: has no ncclGroupEnd");
}

TEST_F(ContractNcclTest, RanksMakeTheSameCalls) {
  struct Case {
    std::function<NcclResult(int rank)> on_0, on_1;
    std::string text;
  };
  const std::vector<Case> cases = {
      {[&](int rank) { return AllReduce(rank, 4); }, [&](int rank) { return AllReduce(rank, 5); },
       "rank 0 made ncclAllReduce of 4 ncclFloat32, ncclSum, and rank 1 ncclAllReduce of 5 "},
      {[&](int rank) { return AllReduce(rank, 4); },
       [&](int rank) { return AllReduce(rank, 4, NcclType::kInt32); },
       "and rank 1 ncclAllReduce of 4 ncclInt32"},
      {[&](int rank) { return AllReduce(rank, 4); },
       [&](int rank) { return AllReduce(rank, 4, kFloat, NcclOp::kMax); }, ", ncclMax"},
      {[&](int rank) { return AllReduce(rank, 4); },
       [&](int rank) { return Broadcast(rank, 4, 0); }, "and rank 1 ncclBroadcast of 4"},
      {[&](int rank) { return Broadcast(rank, 4, 0); },
       [&](int rank) { return Broadcast(rank, 4, 1); },
       "rank 0 made ncclBroadcast of 4 ncclFloat32, root 0, and rank 1 ncclBroadcast of 4 "
       "ncclFloat32, root 1"},
  };
  for (const Case& each : cases) {
    EXPECT_EQ(Group(0, [&] { return each.on_0(0); }), kSuccess);
    EXPECT_EQ(Group(1, [&] { return each.on_1(1); }), kInvalidUsage);
    ExpectMisuse(each.text);
  }
}

TEST_F(ContractNcclTest, InTheSameOrder) {
  EXPECT_EQ(Group(0, [&] { return AllReduce(0, 4); }), kSuccess);
  EXPECT_EQ(Group(0, [&] { return Broadcast(0, 4, 0); }), kSuccess);
  EXPECT_EQ(Group(1, [&] { return Broadcast(1, 4, 0); }), kInvalidUsage);
  ExpectMisuse("ranks differ in collective #0: rank 0 made ncclAllReduce");
}

TEST_F(ContractNcclTest, AllRanksCaptureACollectiveOrNone) {
  const auto graph = CudaGraph::Capture(Stream(0), [&] {
    EXPECT_EQ(Group(0, [&] { return AllReduce(0, 4); }), kSuccess);
    return absl::OkStatus();
  });
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(Group(1, [&] { return AllReduce(1, 4); }), kInvalidUsage);
  ExpectMisuse("rank 0 made ncclAllReduce of 4 ncclFloat32, ncclSum, captured into a graph, and");
}

TEST_F(ContractNcclTest, AllRanksLaunchTheSameGraphs) {
  std::vector<CudaGraph> graphs[2];
  for (const size_t count : {4, 8}) {
    for (int rank = 0; rank < 2; ++rank) {
      auto graph = CudaGraph::Capture(Stream(rank), [&] {
        EXPECT_EQ(Group(rank, [&] { return AllReduce(rank, count); }), kSuccess);
        return absl::OkStatus();
      });
      ASSERT_TRUE(graph.ok()) << graph.status();
      graphs[rank].push_back(*std::move(graph));
    }
  }
  for (int rank = 0; rank < 2; ++rank) ASSERT_TRUE(graphs[rank][1].Launch(Stream(rank)).ok());
  ASSERT_TRUE(SynchronizeCudaDevice().ok());
  EXPECT_THAT(NcclMisuses(), IsEmpty());
  for (int rank = 0; rank < 2; ++rank) ASSERT_TRUE(graphs[rank][rank].Launch(Stream(rank)).ok());
  EXPECT_THAT(std::string(SynchronizeCudaDevice().message()),
              AllOf(HasSubstr("ncclAllReduce of 4 "), HasSubstr("ncclAllReduce of 8 ")));
  ExpectMisuse("NCCL's kernel: ranks differ in collective #1");
}

TEST_F(ContractNcclTest, AGraphEndsBeforeItsCommunicator) {
  const auto graph = CudaGraph::Capture(Stream(0), [&] {
    EXPECT_EQ(Group(0, [&] { return AllReduce(0, 4); }), kSuccess);
    return absl::OkStatus();
  });
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(nccl_.comm_destroy(comms_[0]), kSuccess);
  ASSERT_TRUE(graph->Launch(Stream(0)).ok());
  EXPECT_THAT(std::string(SynchronizeCudaDevice().message()),
              HasSubstr("runs in a graph after the end of its communicator"));
}

// --- Progress. ---

TEST_F(ContractNcclTest, ACommunicatorIsNotUsedWhileInProgress) {
  SetNcclBehavior({.polls_in_progress = 2});
  EXPECT_EQ(nccl_.group_start(), kSuccess);
  EXPECT_EQ(AllReduce(0, 4), kSuccess);
  EXPECT_EQ(nccl_.group_end(), kInProgress);
  EXPECT_EQ(AllReduce(0, 4), kInvalidArgument);
  ExpectMisuse("ncclAllReduce: the communicator's last call is still in progress");
  EXPECT_EQ(nccl_.comm_destroy(comms_[0]), kInvalidArgument);
  ExpectMisuse("ncclCommDestroy: the communicator's last call is still in progress");
  EXPECT_EQ(Poll(0), kSuccess);
  EXPECT_EQ(Group(0, [&] { return AllReduce(0, 4); }), kSuccess);
  EXPECT_THAT(NcclMisuses(), IsEmpty());
}

TEST_F(ContractNcclTest, AnAbortMayComeAtAnyTime) {
  SetNcclBehavior({.polls_in_progress = 2, .own_thread = true});
  EXPECT_EQ(nccl_.group_start(), kSuccess);
  EXPECT_EQ(AllReduce(0, 4), kSuccess);
  EXPECT_EQ(nccl_.group_end(), kInProgress);
  EXPECT_EQ(nccl_.comm_abort(comms_[0]), kSuccess);
  EXPECT_THAT(NcclMisuses(), IsEmpty());
  EXPECT_EQ(AllReduce(0, 4), kInvalidArgument);
  ExpectMisuse("ncclAllReduce: the communicator has ended");
}

TEST_F(ContractNcclTest, AStreamIsNotUsedBeforeItsKernelsAreOnIt) {
  SetNcclBehavior({.polls_in_progress = 2, .own_thread = true});
  auto event = CudaEvent::Create().value();
  EXPECT_EQ(nccl_.group_start(), kSuccess);
  EXPECT_EQ(AllReduce(0, 4), kSuccess);
  EXPECT_EQ(nccl_.group_end(), kInProgress);
  ASSERT_TRUE(event.Record(Stream(0)).ok());
  EXPECT_EQ(Poll(0), kInvalidUsage);
  ExpectMisuse("the stream was used before the communicator was ncclSuccess");
}

TEST_F(ContractNcclTest, ACaptureDoesNotEndBeforeItsKernelsAreInIt) {
  SetNcclBehavior({.polls_in_progress = 2, .own_thread = true});
  const auto graph = CudaGraph::Capture(Stream(0), [&] {
    EXPECT_EQ(nccl_.group_start(), kSuccess);
    EXPECT_EQ(AllReduce(0, 4), kSuccess);
    EXPECT_EQ(nccl_.group_end(), kInProgress);
    return absl::OkStatus();
  });
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(Poll(0), kInvalidUsage);
  ExpectMisuse("a capture of the stream began or ended before the communicator was ncclSuccess");
}

TEST_F(ContractNcclTest, ItsOwnThreadEnqueues) {
  SetNcclBehavior({.polls_in_progress = 2, .own_thread = true});
  ASSERT_TRUE(SetBytesOnDevice(At(0), 0, 512 * sizeof(float), Stream(0)).ok());
  ASSERT_TRUE(SynchronizeCudaDevice().ok());
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(Group(rank, [&] { return AllReduce(rank, 4); }), kSuccess);
  }
  EXPECT_TRUE(SynchronizeCudaDevice().ok());
  EXPECT_THAT(NcclMisuses(), IsEmpty());
}

// --- Arguments. ---

TEST_F(ContractNcclTest, Buffers) {
  const PinnedMemory pinned = PinnedMemory::Allocate(64).value();
  const auto reduce = [&](const void* from, void* to, size_t count) {
    return Group(0, [&] {
      return nccl_.all_reduce(from, to, count, kFloat, NcclOp::kSum, comms_[0], Stream(0));
    });
  };
  EXPECT_EQ(reduce(pinned.data(), At(0), 4), kInvalidArgument);
  ExpectMisuse("ncclAllReduce: the 16 bytes of the input are not in memory of GPU 0");
  EXPECT_EQ(reduce(At(0), At(1, 253), 4), kInvalidArgument);
  ExpectMisuse("the 16 bytes of the output are not in memory");
  EXPECT_EQ(reduce(reinterpret_cast<char*>(At(0)) + 2, At(1), 4), kInvalidArgument);
  ExpectMisuse("the input is not aligned to its elements of 4 bytes");
  EXPECT_EQ(reduce(At(0), At(0, 2), 4), kInvalidArgument);
  ExpectMisuse("input and output overlap");
}

TEST_F(ContractNcclTest, InPlaceIsTheRanksPiece) {
  const auto gather = [&](int rank, size_t piece) {
    return Group(rank, [&] {
      return nccl_.all_gather(At(rank, piece), At(rank), 4, kFloat, comms_[rank], Stream(rank));
    });
  };
  EXPECT_EQ(gather(0, 4), kInvalidArgument);
  ExpectMisuse("ncclAllGather: input and output overlap");
  EXPECT_EQ(gather(0, 0), kSuccess);
  EXPECT_EQ(gather(1, 4), kSuccess);
  const auto scatter = [&](int rank, size_t piece) {
    return Group(rank, [&] {
      return nccl_.reduce_scatter(At(rank), At(rank, piece), 4, kFloat, NcclOp::kSum, comms_[rank],
                                  Stream(rank));
    });
  };
  EXPECT_EQ(scatter(0, 2), kInvalidArgument);
  ExpectMisuse("ncclReduceScatter: input and output overlap");
  EXPECT_EQ(scatter(0, 0), kSuccess);
  EXPECT_EQ(scatter(1, 4), kSuccess);
  EXPECT_THAT(NcclMisuses(), IsEmpty());
}

TEST_F(ContractNcclTest, RootsTypesAndMessages) {
  EXPECT_EQ(Group(0, [&] { return Broadcast(0, 4, 2); }), kInvalidArgument);
  ExpectMisuse("ncclBroadcast: there is no rank 2 among 2");
  EXPECT_EQ(Group(0, [&] { return AllReduce(0, 4, static_cast<NcclType>(12)); }), kInvalidArgument);
  ExpectMisuse("ncclAllReduce: there is no type 12");
  EXPECT_EQ(Group(0, [&] { return AllReduce(0, 4, kFloat, static_cast<NcclOp>(9)); }),
            kInvalidArgument);
  ExpectMisuse("ncclAllReduce: there is no operation 9");
  EXPECT_EQ(Group(0, [&] { return nccl_.send(At(0), 4, kFloat, 0, comms_[0], Stream(0)); }),
            kInvalidUsage);
  ExpectMisuse("a message to oneself needs its other end in the same group");
}

TEST_F(ContractNcclTest, TheEndsOfAMessageAgree) {
  EXPECT_EQ(Group(0, [&] { return nccl_.send(At(0), 4, kFloat, 1, comms_[0], Stream(0)); }),
            kSuccess);
  EXPECT_EQ(Group(1, [&] { return nccl_.recv(At(1), 5, kFloat, 0, comms_[1], Stream(1)); }),
            kSuccess);
  EXPECT_THAT(std::string(SynchronizeCudaDevice().message()),
              HasSubstr("the ends of a message differ: rank 0 made ncclSend of 4 ncclFloat32, and "
                        "rank 1 ncclRecv of 5 ncclFloat32"));
}

TEST_F(ContractNcclTest, OneStreamOfTheCommunicatorsDevice) {
  EXPECT_EQ(Group(0,
                  [&] {
                    (void)AllReduce(0, 4);
                    return nccl_.all_reduce(At(0), At(0), 4, kFloat, NcclOp::kSum, comms_[0],
                                            Stream(1));
                  }),
            kInvalidUsage);
  ExpectMisuse("ncclAllReduce: the group uses another stream, too");
  const ScopedEmulatedGpu two_gpus({.num_devices = 2});
  ASSERT_TRUE(SetCudaDevice(1).ok());
  const auto stream = CudaOwnStream::Create();
  ASSERT_TRUE(SetCudaDevice(0).ok() && stream.ok());
  EXPECT_EQ(Group(0,
                  [&] {
                    return nccl_.all_reduce(At(0), At(0), 4, kFloat, NcclOp::kSum, comms_[0],
                                            stream->get());
                  }),
            kInvalidArgument);
  ExpectMisuse("the stream is of GPU 1, the communicator of GPU 0");
}

// --- Communicators. ---

TEST_F(ContractNcclTest, Configs) {
  NcclUniqueId id;
  ASSERT_EQ(nccl_.get_unique_id(&id), kSuccess);
  const auto init = [&](const NcclConfig& config, int rank = 0, int size = 1) {
    NcclConfig copy = config;
    NcclComm comm = nullptr;
    return nccl_.comm_init_rank_config(&comm, size, id, rank, &copy);
  };
  EXPECT_EQ(init({.size = 24}), kInvalidArgument);
  ExpectMisuse("ncclCommInitRankConfig: the config has size 24, magic cafebeef");
  EXPECT_EQ(init({.magic = 1}), kInvalidArgument);
  EXPECT_EQ(init({.version = 21000}), kInvalidArgument);
  EXPECT_EQ(init({.blocking = 1}), kInvalidArgument);
  EXPECT_EQ(init({.cga_cluster_size = 9}), kInvalidArgument);
  EXPECT_EQ(init({.min_ctas = 4, .max_ctas = 2}), kInvalidArgument);
  ExpectMisuse("there are 4 to 2 CTAs");
  EXPECT_EQ(init({.split_share = 2}), kInvalidArgument);
  EXPECT_EQ(init({}, 1), kInvalidArgument);
  EXPECT_EQ(init({}), kInProgress);
  EXPECT_EQ(init({}), kInvalidArgument);
  ExpectMisuse("rank 0 of 1 comes to a communicator of 1 ranks, 1 of which are there");
}

TEST_F(ContractNcclTest, NoSplitWhileTheParentWorks) {
  NcclConfig config;
  NcclComm part = nullptr;
  EXPECT_EQ(Group(0, [&] { return AllReduce(0, 4); }), kSuccess);
  EXPECT_EQ(nccl_.comm_split(comms_[0], 0, 0, &part, &config), kInvalidUsage);
  ExpectMisuse("ncclCommSplit: 1 kernels of the parent still run");
}

TEST_F(ContractNcclTest, ACommunicatorEndsOnce) {
  EXPECT_EQ(nccl_.comm_destroy(comms_[0]), kSuccess);
  EXPECT_EQ(nccl_.comm_destroy(comms_[0]), kInvalidArgument);
  ExpectMisuse("ncclCommDestroy: the communicator has ended");
  NcclResult state;
  EXPECT_EQ(nccl_.comm_get_async_error(comms_[0], &state), kInvalidArgument);
  ExpectMisuse("ncclCommGetAsyncError: there is no communicator, or it has ended");
}

}  // namespace
}  // namespace strake::testing
