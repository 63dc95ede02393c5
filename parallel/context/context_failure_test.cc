// A rank that fails, or stops answering, in any transfer of context attention: the other ranks end,
// and report which rank failed.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/comm/testing/faulty_communicator.h"
#include "parallel/context/context_attention.h"
#include "parallel/context/context_parallel.h"
#include "parallel/mesh/mesh.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake {
namespace {

using std::chrono::milliseconds;
using testing::Fault;
using testing::FaultPlan;
using testing::FaultyCommunicator;
using testing::FillNormal;
using testing::InjectedError;
using testing::Stops;
using testing::TestContext;
using testing::TestTensor;

constexpr int kNumRanks = 3;
// Longer than scheduling delays of a busy machine.
constexpr milliseconds kTimeout(2000);
// For tests that must not reach it.
constexpr milliseconds kLongTimeout = std::chrono::minutes(1);

// Both passes, and a sum after them, so that a fault in the last transfer reaches every rank.
absl::Status Step(const ContextParallel& cp, FaultPlan* plan, int64_t* num_transfers) {
  const AttentionShape shape = {
      .batch = 1, .seq_len = 4, .num_heads = 2, .num_kv_heads = 1, .head_dim = 2};
  const TestTensor qkv(DType::kF32, {4, 8}), dqkv(DType::kF32, {4, 8}), lse(DType::kF32, {1, 2, 4});
  const TestTensor y(DType::kF32, {4, 4}), dy(DType::kF32, {4, 4}), sum(DType::kF32, {1});
  FillNormal(qkv, 1);
  FillNormal(dy, 2);
  FillNormal(sum, 3);
  const TestContext ctx(OpSet::kAuto, /*num_threads=*/1, /*arena_bytes=*/1 << 20);
  STRAKE_RETURN_IF_ERROR(ContextAttentionForward(ctx, cp, qkv, shape, y, lse));
  STRAKE_RETURN_IF_ERROR(ContextAttentionBackward(ctx, cp, dy, qkv, y, lse, shape, dqkv));
  *num_transfers = plan->num_started;
  return cp.communicator().AllReduceSum(sum).Wait().status();
}

struct Outcome {
  std::vector<absl::Status> status;  // by rank
  int64_t num_transfers = 0;         // of the faulty rank
  bool happened = false;
};

Outcome RunWithFault(ContextComm comm, Fault fault, int64_t at, int faulty_rank) {
  Outcome outcome;
  outcome.status.resize(kNumRanks);
  std::mutex mutex;
  std::condition_variable changed;
  int num_others_ended = 0;
  const auto wait_for_others = [&] {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return num_others_ended == kNumRanks - 1; });
  };
  (void)RunOnThreads({1, 1, kNumRanks, 1}, {.timeout = Stops(fault) ? kTimeout : kLongTimeout},
                     [&](const Mesh& mesh) {
                       const bool faulty = mesh.rank() == faulty_rank;
                       FaultPlan plan;
                       if (faulty) plan = {.fault = fault, .at = at, .stop = wait_for_others};
                       FaultyCommunicator group(mesh.communicator(MeshAxis::kCp), &plan);
                       int64_t num_transfers = 0;
                       const absl::Status status =
                           Step(ContextParallel(group, comm), &plan, &num_transfers);
                       const std::lock_guard<std::mutex> lock(mutex);
                       outcome.status[mesh.rank()] = status;
                       if (faulty) outcome.num_transfers = num_transfers;
                       if (faulty) outcome.happened = plan.happened;
                       if (!faulty) ++num_others_ended;
                       changed.notify_all();
                       return status;
                     });
  return outcome;
}

void ExpectOthersFail(ContextComm comm, Fault fault, int64_t at, int faulty_rank) {
  SCOPED_TRACE(
      absl::StrCat("transfer ", at, " of rank ", faulty_rank, ", fault ", static_cast<int>(fault)));
  const Outcome outcome = RunWithFault(comm, fault, at, faulty_rank);
  EXPECT_TRUE(outcome.happened);
  static const std::regex named(
      R"(\[[a-z_]+ #[0-9]+, axis cp, rank [0-9] of 3\] .*rank ([0-9]) of axis (cp|world) )"
      R"((aborted: a torn page|dropped [a-z_]+ #[0-9]+ of |left the group before [a-z_]+ #[0-9]+ )"
      R"(|did not join within 2000 ms: ))");
  for (int rank = 0; rank < kNumRanks; ++rank) {
    const std::string message(outcome.status[rank].message());
    if (rank == faulty_rank && !Stops(fault)) {
      EXPECT_EQ(outcome.status[rank], InjectedError());
      continue;
    }
    std::smatch match;
    ASSERT_TRUE(std::regex_search(message, match, named)) << "rank " << rank << ": " << message;
    EXPECT_EQ(match[1], absl::StrCat(faulty_rank)) << message;
    EXPECT_EQ(match[3].str().starts_with("did not join"), Stops(fault)) << message;
    // Messages that were on their way do not hide the error.
    EXPECT_TRUE(fault != Fault::kErrorBefore || match[3] == "aborted: a torn page") << message;
    EXPECT_TRUE(comm != ContextComm::kRing || match[2] == "cp") << message;
  }
}

// Calls body(0), ..., body(n - 1), several at once: they wait more than they compute.
void ForEachAtOnce(int64_t n, const std::function<void(int64_t)>& body) {
  constexpr int kAtOnce = 64;
  std::atomic<int64_t> next{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kAtOnce; ++t) {
    threads.emplace_back([&] {
      for (int64_t i = next++; i < n; i = next++) body(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void TestFault(Fault fault) {
  for (const ContextComm comm : {ContextComm::kRing, ContextComm::kAllGather}) {
    const bool ring = comm == ContextComm::kRing;
    SCOPED_TRACE(ring ? "ring" : "all-gather");
    // Two steps of a message each way, and twice as many backwards; or three collectives.
    const int64_t num_transfers = ring ? 12 : 3;
    EXPECT_EQ(RunWithFault(comm, Fault::kNone, -1, 0).num_transfers, num_transfers);
    ForEachAtOnce(num_transfers * kNumRanks, [&](int64_t i) {
      ExpectOthersFail(comm, fault, i / kNumRanks, static_cast<int>(i % kNumRanks));
    });
  }
}

TEST(ContextFailureTest, AnErrorBeforeEachTransfer) { TestFault(Fault::kErrorBefore); }
TEST(ContextFailureTest, AnErrorInsideEachTransfer) { TestFault(Fault::kErrorInside); }
TEST(ContextFailureTest, StoppedBeforeEachTransfer) { TestFault(Fault::kStopBefore); }
TEST(ContextFailureTest, StoppedInsideEachTransfer) { TestFault(Fault::kStopInside); }

}  // namespace
}  // namespace strake
