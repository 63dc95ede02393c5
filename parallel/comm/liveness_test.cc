// Processes, their clock and what carries their messages are simulated.
#include "parallel/comm/liveness.h"

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/control_message.h"

namespace strake {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr milliseconds kTick(10), kTimeout(5000);

class LivenessTest : public ::testing::Test {
 protected:
  void MakeWorld(int size, int relay = -1) {
    for (int process = 0; process < size; ++process) {
      processes_.push_back(std::make_unique<Liveness>(
          Liveness::World{.id = 9, .process = process, .size = size, .relay = relay},
          [this, process](const ControlMessage& message) {
            EXPECT_EQ(message.from, process);
            EXPECT_EQ(message.group, 9);
            if (message.type == ControlMessage::Type::kAsk) ++num_questions_;
            under_way_.push_back(EncodeControlMessage(message));
          },
          [this, process] { told_.insert(process); }));
    }
  }

  // A group of all processes, for rank `rank`.
  const ProcessGroup& Group(uint64_t id, const std::string& axis, int rank,
                            std::vector<int> processes, milliseconds timeout = kTimeout) {
    groups_.push_back({id, axis, rank, std::move(processes), timeout});
    return groups_.back();
  }

  // A wait for a call that knows what it lacks.
  Liveness::Wait& WaitKnowing(int process, const ProcessGroup& group, std::vector<int> missing,
                              std::vector<int> unfinished = {}) {
    waits_.push_back({.group = group, .call = &call_, .lack = [missing, unfinished] {
                        return Liveness::Lack{missing, unfinished};
                      }});
    processes_[process]->Begin(&waits_.back(), now_);
    return waits_.back();
  }

  // One that does not.
  void WaitFor(int process, const ProcessGroup& group, const std::string& what) {
    waits_.push_back({.group = group, .what = what});
    processes_[process]->Begin(&waits_.back(), now_);
  }

  // Processes that are silent neither receive nor look at the clock.
  void Deliver() {
    while (!under_way_.empty()) {
      const std::string bytes = std::exchange(under_way_.front(), "");
      under_way_.pop_front();
      const ControlMessage message =
          DecodeControlMessage(
              absl::MakeConstSpan(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()))
              .value();
      for (int to = 0; to < static_cast<int>(processes_.size()); ++to) {
        const bool meant = message.to == to || message.to == ControlMessage::kEveryProcess;
        if (!meant || to == message.from || silent_.count(to) > 0) continue;
        EXPECT_TRUE(processes_[to]->Receive(message, now_).ok());
      }
    }
  }
  void Run(milliseconds time) {
    for (const auto end = now_ + time; now_ < end;) {
      now_ += kTick;
      for (size_t process = 0; process < processes_.size(); ++process) {
        if (silent_.count(static_cast<int>(process)) == 0) processes_[process]->Check(now_);
      }
      Deliver();
    }
  }

  std::string Failure(int process) const { return processes_[process]->failure().ToString(); }
  // All but the silent have failed, for the same reason.
  std::string FailureOfAll() const {
    std::string failure;
    for (int process = 0; process < static_cast<int>(processes_.size()); ++process) {
      if (silent_.count(process) > 0) continue;
      EXPECT_EQ(told_.count(process), 1);
      EXPECT_TRUE(failure.empty() || Failure(process) == failure) << Failure(process);
      failure = Failure(process);
    }
    return failure;
  }

  Liveness::Time now_{};
  std::vector<std::unique_ptr<Liveness>> processes_;
  std::set<int> silent_, told_;
  int num_questions_ = 0;
  std::deque<std::string> under_way_;
  std::deque<ProcessGroup> groups_;
  std::deque<Liveness::Wait> waits_;
  const CollectiveCall call_{
      .kind = CollectiveKind::kBarrier, .sequence = 4, .site = {.file = "a.cc", .line = 7}};
};

TEST_F(LivenessTest, ASilentRankIsBlamedOnceItCouldHaveAnswered) {
  MakeWorld(3);
  silent_ = {1};
  WaitKnowing(0, Group(1, "tp", 0, {0, 1, 2}), {1});
  WaitKnowing(2, Group(1, "tp", 2, {0, 1, 2}, 2 * kTimeout), {1});
  Run(kTimeout + Liveness::kAnswerTime - kTick);
  EXPECT_TRUE(processes_[0]->failure().ok());
  Run(2 * kTick);
  EXPECT_THAT(FailureOfAll(),
              AllOf(HasSubstr("DEADLINE_EXCEEDED: rank 1 of axis tp did not join within 5000 ms: "),
                    HasSubstr(" waits in barrier #4 at a.cc:7")));
  EXPECT_EQ(num_questions_, 1);
}

TEST_F(LivenessTest, ARankThatAnswersThatItDoesNotWaitIsBlamedAtOnce) {
  MakeWorld(3);
  WaitKnowing(0, Group(1, "tp", 0, {0, 1, 2}), {1});
  Run(kTimeout - kTick);
  EXPECT_EQ(num_questions_, 0);
  Run(2 * kTick);
  EXPECT_THAT(FailureOfAll(), HasSubstr("rank 1 of axis tp did not join within 5000 ms: rank 0"));
}

// 0 waits for 1 and 3, 1 waits for 2, which is silent; 3 waits for 1. Only 1 knows of 2.
TEST_F(LivenessTest, TheRankThatKeepsTheOthersWaitingIsBlamed) {
  MakeWorld(4);
  silent_ = {2};
  WaitKnowing(0, Group(1, "dp", 0, {0, 1, 3}, milliseconds(1000)), {1, 2});
  WaitKnowing(3, Group(1, "dp", 2, {0, 1, 3}, milliseconds(1000)), {1});
  WaitKnowing(1, Group(2, "tp", 0, {1, 2}, milliseconds(60000)), {1});
  Run(milliseconds(1000) + Liveness::kAnswerTime + 3 * kTick);
  // The time is that of those who wait for it.
  EXPECT_THAT(FailureOfAll(), HasSubstr("rank 1 of axis tp did not join within 1000 ms: rank 0 "));
}

TEST_F(LivenessTest, RanksThatWaitForEachOtherAreBlamedInTheEnd) {
  MakeWorld(2);
  WaitKnowing(0, Group(1, "dp", 0, {0, 1}), {1});
  WaitKnowing(1, Group(2, "tp", 1, {0, 1}, 2 * kTimeout), {0});
  Run(kTimeout + (Liveness::kMaxRounds - 1) * Liveness::kAnswerTime);
  EXPECT_TRUE(processes_[0]->failure().ok());
  Run(Liveness::kAnswerTime);
  EXPECT_THAT(FailureOfAll(), HasSubstr(" did not join within 5000 ms"));
}

TEST_F(LivenessTest, WhoHasJoinedAndOwesDataIsBlamedWithoutAQuestion) {
  MakeWorld(2);
  WaitKnowing(0, Group(1, "dp", 0, {0, 1}), {}, {1});
  Run(kTimeout + kTick);
  EXPECT_THAT(FailureOfAll(), HasSubstr("rank 1 of axis dp did not go on within 5000 ms: rank 0"));
  EXPECT_EQ(num_questions_, 0);
}

TEST_F(LivenessTest, AWaitThatEndsInTimeFailsNothing) {
  MakeWorld(2);
  Liveness::Wait& wait = WaitKnowing(0, Group(1, "dp", 0, {0, 1}), {1});
  WaitKnowing(1, Group(2, "tp", 1, {0, 1}, 10 * kTimeout), {0});
  Run(kTimeout + Liveness::kAnswerTime);  // it has asked, and rank 1 waits
  EXPECT_GT(num_questions_, 0);
  processes_[0]->End(&wait);
  processes_[1]->End(&waits_.back());
  Run(10 * kTimeout);
  EXPECT_TRUE(processes_[0]->failure().ok());
}

// --- Waits that do not know what they lack. ---

TEST_F(LivenessTest, TheRankThatHasStartedLessIsBlamed) {
  MakeWorld(3, /*relay=*/0);
  for (const int rank : {0, 1, 2}) {
    const ProcessGroup& group = Group(1, "tp", rank, {0, 1, 2});
    processes_[rank]->Started(group, {.kind = CollectiveKind::kBarrier, .sequence = 3});
    if (rank != 2) processes_[rank]->Started(group, call_);
    if (rank == 0) WaitFor(rank, group, "what its GPU does");
  }
  Run(kTimeout + kTick);
  // It names the call, not the wait.
  EXPECT_THAT(FailureOfAll(), HasSubstr("rank 2 of axis tp did not join within 5000 ms: rank 0 "
                                        "waits in barrier #4 at a.cc:7"));
}

TEST_F(LivenessTest, MessagesAreComparedPairByPair) {
  MakeWorld(3);
  const ProcessGroup& group = Group(1, "pp", 0, {0, 1, 2});
  processes_[0]->Started(group, {.kind = CollectiveKind::kSend, .count = 3, .peer = 1});
  processes_[2]->Started(Group(1, "pp", 2, {0, 1, 2}),
                         {.kind = CollectiveKind::kRecv, .count = 3, .peer = 0});
  WaitFor(0, group, "what its GPU does");
  Run(kTimeout + kTick);
  EXPECT_THAT(FailureOfAll(), HasSubstr("rank 1 of axis pp did not join within 5000 ms: rank 0 "
                                        "waits in send #0 of f32[3] to rank 1"));
}

// 0 lacks 1 in dp, and 1, which waits, lacks 2 in tp. 3 waits for something else, and for longer.
TEST_F(LivenessTest, ARankThatWaitsIsToldAndBlamesWhoKeepsItWaiting) {
  MakeWorld(4);
  silent_ = {2};
  const ProcessGroup& dp = Group(1, "dp", 0, {0, 1}, milliseconds(1000));
  processes_[0]->Started(dp, call_);
  WaitFor(0, dp, "what its GPU does");
  const ProcessGroup& tp = Group(2, "tp", 0, {1, 2}, milliseconds(60000));
  processes_[1]->Started(tp, call_);
  WaitFor(1, tp, "what its GPU does");
  WaitFor(3, Group(3, "cp", 0, {3, 0}, milliseconds(60000)), "something");
  Run(milliseconds(1000) + 3 * Liveness::kAnswerTime + 5 * kTick);
  EXPECT_THAT(FailureOfAll(), HasSubstr("rank 1 of axis tp did not join within 1000 ms: rank 0 "
                                        "waits in barrier #4"));
}

TEST_F(LivenessTest, WhereNoCallIsMissingTheProcessesThatDoNotWaitAre) {
  MakeWorld(3);
  WaitFor(0, Group(1, "tp", 0, {0, 1, 2}), "ncclCommInitRankConfig");
  WaitFor(2, Group(1, "tp", 2, {0, 1, 2}, 2 * kTimeout), "ncclCommInitRankConfig");
  Run(kTimeout + kTick);
  EXPECT_THAT(FailureOfAll(), HasSubstr("rank 1 of all 3 did not come within 5000 ms: rank 0 "
                                        "waits in ncclCommInitRankConfig"));
}

TEST_F(LivenessTest, GpusThatHangAreNoRanksFault) {
  MakeWorld(2);
  for (const int rank : {0, 1}) {
    const ProcessGroup& group = Group(1, "tp", rank, {0, 1}, (rank + 1) * kTimeout);
    processes_[rank]->Started(group, call_);
    WaitFor(rank, group, "what its GPU does");
  }
  Run(kTimeout + kTick);
  EXPECT_THAT(FailureOfAll(), HasSubstr("no rank of all 2 is missing, and GPUs did not come to an "
                                        "end within 5000 ms"));
}

TEST_F(LivenessTest, WithoutTheRelayNobodyElseCanBeBlamed) {
  MakeWorld(3, /*relay=*/0);
  silent_ = {0, 2};
  WaitFor(1, Group(1, "tp", 1, {0, 1, 2}), "what its GPU does");
  Run(kTimeout + Liveness::kAnswerTime);
  EXPECT_THAT(Failure(1), HasSubstr("rank 0 of all 3 did not answer within 5000 ms: rank 1"));
}

// --- Failures. ---

TEST_F(LivenessTest, TheFirstCauseIsKeptAndToldToAll) {
  MakeWorld(3);
  processes_[1]->Fail(absl::DataLossError("a torn page"), /*aborted=*/true);
  processes_[1]->Fail(absl::InternalError("later"));
  processes_[2]->Fail(absl::InternalError("later, and elsewhere"));
  Deliver();
  EXPECT_EQ(Failure(0), "DATA_LOSS: a torn page");
  EXPECT_EQ(Failure(1), "DATA_LOSS: a torn page");
  EXPECT_EQ(Failure(2), "INTERNAL: later, and elsewhere");
  EXPECT_TRUE(processes_[0]->aborted_elsewhere());
  EXPECT_FALSE(processes_[1]->aborted_elsewhere());
  EXPECT_FALSE(processes_[2]->aborted_elsewhere());
}

TEST_F(LivenessTest, AConnectionThatEndsIsADeathUnlessTheProcessHasLeft) {
  MakeWorld(3);
  processes_[0]->Left(1);
  processes_[0]->ConnectionEnded(1);
  EXPECT_TRUE(processes_[0]->failure().ok());
  processes_[0]->ConnectionEnded(2);
  Deliver();
  EXPECT_THAT(FailureOfAll(),
              HasSubstr("UNAVAILABLE: rank 2 of all 3 ended without a word: its connection to rank "
                        "0 is closed; its own output may say why"));
}

TEST_F(LivenessTest, MessagesThatCannotBeAreNamed) {
  MakeWorld(3);
  WaitFor(0, Group(1, "tp", 0, {0, 1, 2}), "what its GPU does");
  const auto error = [&](ControlMessage message) {
    return std::string(processes_[0]->Receive(message, now_).message());
  };
  using Type = ControlMessage::Type;
  for (const int from : {-1, 0, 3}) {
    EXPECT_THAT(error({.type = Type::kAsk, .from = from}),
                HasSubstr("the sender " + std::to_string(from) + ", and goes to process 0 of 3"));
  }
  EXPECT_THAT(error({.type = Type::kAsk, .from = 1, .tag = -5}), HasSubstr("a timeout of -5 ms"));
  EXPECT_THAT(error({.type = Type::kJoin, .from = 1}), HasSubstr("type 0 is not about failures"));
  // Nobody asked, and it changes nothing.
  EXPECT_EQ(error({.type = Type::kAnswer, .from = 1}), "");
  // The longest timeout is no overflow.
  EXPECT_EQ(error({.type = Type::kAsk, .from = 1, .tag = INT64_MAX, .flag = true}), "");
  Run(kTick);
  EXPECT_GT(num_questions_, 0);
}

}  // namespace
}  // namespace strake
