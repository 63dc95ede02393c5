// A process behind a connection that says what it likes: its frames reach the control of rank 0, or
// of another rank, over a real socket. Whatever they hold, the groups fail with an error that names
// the process and the value, and memory stays as it is (.ci/run has the address sanitizer on).
#include "parallel/comm/nccl/nccl_control.h"

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/control_message.h"
#include "parallel/comm/nccl/nccl_connection.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Kind = CollectiveKind;
using Type = ControlMessage::Type;

// A rank of `size`, whose only connection, to process `peer`, is in the hands of the test.
class Victim {
 public:
  Victim(int rank, int size, int peer) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ours_ = std::make_unique<FileDescriptor>(ends[0]);
    NcclConnections connections;
    for (int process = 0; process < (rank == 0 ? size : 1); ++process) {
      connections.sockets.emplace_back(process == peer ? ends[1] : -1);
    }
    control_ = std::make_unique<NcclControl>(rank, size, std::move(connections),
                                             [this] { failed_.set_value(); });
  }

  NcclControl& control() { return *control_; }
  void Say(const std::string& bytes) {
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t sent = send(ours_->get(), bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (sent <= 0) return;  // it has closed its end
      at += sent;
    }
  }
  void Say(const ControlMessage& message) { Say(EncodeNcclFrame(message)); }
  void Hang() { ours_ = nullptr; }

  // Waits for the groups' failure.
  std::string Failure() {
    failed_.get_future().wait();
    return control_->failure().ToString();
  }

 private:
  std::unique_ptr<FileDescriptor> ours_;
  std::promise<void> failed_;
  std::unique_ptr<NcclControl> control_;
};

ControlMessage Join(CollectiveCall call, int64_t payload_bytes, int from = 1, uint64_t group = 0) {
  ControlMessage join{.type = Type::kJoin, .group = group, .from = from, .to = 0};
  join.call = std::move(call);
  join.axis = "dp";
  join.payload.resize(payload_bytes);
  return join;
}

CollectiveCall Sum(int64_t count) { return {.kind = Kind::kAllReduceSum, .count = count}; }

// What rank 0 of 3 says to `message` of process 1.
std::string FailureAfter(const ControlMessage& message) {
  Victim victim(0, 3, 1);
  victim.Say(message);
  return victim.Failure();
}

TEST(NcclControlTest, CallsThatCannotBeFailTheGroups) {
  CollectiveCall gather{.kind = Kind::kAllGather, .count = 6, .counts = {1, 0, 5}};
  // These once wrote a result far outside of its buffer.
  gather.counts = {1, int64_t{1} << 40, 5};
  EXPECT_THAT(FailureAfter(Join(gather, 0)),
              HasSubstr("INVALID_ARGUMENT: rank 1 of all 3: its call has a sum of counts of "
                        "1099511627782, and not 6"));
  gather.counts = {-1, 2, 5};
  EXPECT_THAT(FailureAfter(Join(gather, 8)),
              HasSubstr("rank 1 of all 3: its call has a count of -1"));
  gather.counts = {6};
  EXPECT_THAT(FailureAfter(Join(gather, 0)), HasSubstr("a number of counts of 1"));
  EXPECT_THAT(FailureAfter(Join({.kind = Kind::kBroadcast, .count = 2, .peer = 77}, 0)),
              HasSubstr("the peer 77"));
  EXPECT_THAT(FailureAfter(Join({.kind = Kind::kSend, .count = 2, .peer = -7}, 8)),
              HasSubstr("the peer -7"));
  EXPECT_THAT(FailureAfter(Join(Sum(int64_t{1} << 62), 0)), HasSubstr("4611686018427387904"));
}

TEST(NcclControlTest, DataOfAnotherLengthFailsTheGroups) {
  EXPECT_THAT(FailureAfter(Join(Sum(1 << 29), 4)),
              HasSubstr("rank 1 of all 3: it sent 4 bytes, and not 2147483648, in "
                        "all_reduce_sum #0 of f32[536870912]"));
  EXPECT_THAT(FailureAfter(Join(Sum(1), 8)), HasSubstr("it sent 8 bytes, and not 4, in"));
  CollectiveCall on_gpu = Sum(1);
  on_gpu.device = Device::kCuda;
  EXPECT_THAT(FailureAfter(Join(on_gpu, 4)), HasSubstr("it sent 4 bytes, and not 0, in"));
}

TEST(NcclControlTest, CallsOfAnotherRankOrGroupFailTheGroups) {
  for (const int rank : {-1, 0, 2, 3, 1 << 30}) {
    EXPECT_THAT(FailureAfter(Join(Sum(1), 4, rank)),
                HasSubstr(absl::StrCat("rank 1 of all 3: it sent a call of rank ", rank,
                                       " of 3 of axis dp, which it is not")));
  }
  EXPECT_THAT(FailureAfter(Join(Sum(1), 4, 1, /*group=*/5)),
              HasSubstr("rank 1 of all 3: it sent a call of group 5"));
}

TEST(NcclControlTest, TheSameCallTwiceFailsTheGroups) {
  Victim victim(0, 3, 1);
  for (int i = 0; i < 2; ++i) victim.Say(Join(Sum(1), 4));
  EXPECT_THAT(victim.Failure(), HasSubstr("it sent a call of rank 1 of axis dp a second time: "
                                          "all_reduce_sum #0 of f32[1]"));
}

TEST(NcclControlTest, CallsThatDisagreeFailTheGroups) {
  Victim victim(0, 2, 1);
  victim.Say(Join(Sum(2), 8));
  const ProcessGroup group{
      .axis = "dp", .rank = 0, .processes = {0, 1}, .timeout = std::chrono::minutes(5)};
  float x = 1;
  CollectiveCall call = Sum(1);
  call.input = call.output = &x;
  EXPECT_THAT(
      victim.control().Await(victim.control().Join(group, call), group, call).status().ToString(),
      AllOf(HasSubstr("on axis dp, ranks disagree: rank 0 called all_reduce_sum #0 of f32[1]"),
            HasSubstr("rank 1 called all_reduce_sum #0 of f32[2]")));
}

TEST(NcclControlTest, MessagesThatAreNotForRankZeroFailTheGroups) {
  EXPECT_THAT(FailureAfter({.type = Type::kResult, .from = 1, .to = 0}),
              HasSubstr("rank 1 of all 3: it sent a result, which only rank 0 may"));
  for (const int to : {-2, 1, 3}) {
    EXPECT_THAT(FailureAfter({.type = Type::kAnswer, .from = 1, .to = to}),
                HasSubstr(absl::StrCat("it sent a message from 1 to ", to)));
  }
  EXPECT_THAT(FailureAfter({.type = Type::kAsk, .from = 2}),
              HasSubstr("rank 1 of all 3: it sent a message from 2 to -1"));
  EXPECT_THAT(FailureAfter({.type = Type::kAsk, .from = 1, .tag = -1}),
              HasSubstr("rank 1 of all 3: a question has a timeout of -1 ms"));
}

std::string WithLength(int64_t num_bytes, const std::string& bytes) {
  return std::string(reinterpret_cast<const char*>(&num_bytes), sizeof(num_bytes)) + bytes;
}

TEST(NcclControlTest, FramesThatCannotBeFailTheGroups) {
  const auto failure_after = [](const std::string& bytes) {
    Victim victim(0, 3, 1);
    victim.Say(bytes);
    return victim.Failure();
  };
  EXPECT_THAT(failure_after(WithLength(-1, "")),
              HasSubstr("rank 1 of all 3: it sent a frame of -1 bytes, and the largest has"));
  EXPECT_THAT(failure_after(WithLength(INT64_MAX, "")),
              HasSubstr("it sent a frame of 9223372036854775807 bytes"));
  EXPECT_THAT(failure_after(WithLength(3, "abc")), HasSubstr("rank 1 of all 3: it sent a message "
                                                             "with 1 header in 3 bytes"));
  EXPECT_THAT(failure_after(std::string(1000, '\xff')), HasSubstr("a frame of -1 bytes"));
  std::string frame = EncodeNcclFrame(Join(Sum(1), 4));
  frame[8 + 1] = 77;  // the kind
  EXPECT_THAT(failure_after(frame), HasSubstr("it sent a message whose kind is 77"));
}

// What came before counts, and in its order.
TEST(NcclControlTest, AFailureBeforeGarbageIsTheCause) {
  Victim victim(0, 3, 1);
  ControlMessage failure{.type = Type::kFail, .from = 1};
  failure.failure = absl::DataLossError("a torn page");
  victim.Say(EncodeNcclFrame(failure) + std::string(1000, '\xff'));
  EXPECT_EQ(victim.Failure(), "DATA_LOSS: a torn page");
}

// A length is no reason to allocate: this one is never filled.
TEST(NcclControlTest, AFrameThatIsNeverCompleteTakesTheMemoryOfWhatCame) {
  NcclFrameReader reader;
  std::vector<ControlMessage> messages;
  EXPECT_TRUE(reader.Read(WithLength(kMaxNcclFrameBytes, std::string(100, 'x')), &messages).ok());
  EXPECT_TRUE(messages.empty());
  Victim victim(0, 3, 1);
  victim.Say(WithLength(kMaxNcclFrameBytes, std::string(100, 'x')));
  victim.Hang();
  EXPECT_THAT(victim.Failure(), HasSubstr("rank 1 of all 3 ended without a word"));
}

TEST(NcclControlTest, FramesInPiecesAreFrames) {
  const std::string frames =
      EncodeNcclFrame(Join(Sum(1), 4)) + EncodeNcclFrame({.type = Type::kLeave, .from = 1});
  NcclFrameReader reader;
  std::vector<ControlMessage> messages;
  for (const char byte : frames) {
    ASSERT_TRUE(reader.Read(absl::string_view(&byte, 1), &messages).ok());
  }
  ASSERT_EQ(messages.size(), 2);
  EXPECT_EQ(messages[0].call.count, 1);
  EXPECT_EQ(messages[1].type, Type::kLeave);
}

// --- A stranger in rank 0's place. ---

TEST(NcclControlTest, WhatRankZeroCannotSendFailsTheGroups) {
  const auto failure_after = [](const ControlMessage& message) {
    Victim victim(1, 3, 0);
    victim.Say(message);
    return victim.Failure();
  };
  EXPECT_THAT(failure_after({.type = Type::kResult, .tag = 7}),
              HasSubstr("rank 0 of all 3: it sent a result of call 7, which has none to come"));
  EXPECT_THAT(failure_after({.type = Type::kLeave}),
              HasSubstr("rank 0 of all 3: it sent a message of type 2, which is for rank 0"));
  EXPECT_THAT(failure_after(Join(Sum(1), 4)), HasSubstr("of type 0, which is for rank 0"));
  EXPECT_THAT(failure_after({.type = Type::kAsk, .from = 3}), HasSubstr("the sender 3"));
}

TEST(NcclControlTest, AResultServesOnce) {
  Victim victim(1, 2, 0);
  const ProcessGroup group{
      .axis = "dp", .rank = 1, .processes = {0, 1}, .timeout = std::chrono::minutes(5)};
  const CollectiveCall barrier{.kind = Kind::kBarrier};
  const int64_t ticket = victim.control().Join(group, barrier);
  victim.Say({.type = Type::kResult, .to = 1, .tag = ticket});
  EXPECT_TRUE(victim.control().Await(ticket, group, barrier).ok());
  victim.Say({.type = Type::kResult, .to = 1, .tag = ticket});
  EXPECT_THAT(victim.Failure(), HasSubstr("a result of call 0, which has none to come"));
}

TEST(NcclSplitTest, AnswersThatCannotBeAreNamed) {
  const NcclSplit good{.group = 3, .color_index = 1, .parent_ranks = {2, 0}};
  const auto decoded = NcclSplit::Decode(good.Encode(), 2, 3);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->parent_ranks, good.parent_ranks);
  const auto error = [](const NcclSplit& split) {
    return std::string(NcclSplit::Decode(split.Encode(), 2, 3).status().message());
  };
  EXPECT_THAT(error({.group = 3, .color_index = -1, .parent_ranks = {2}}), HasSubstr("color -1"));
  EXPECT_THAT(error({.group = 3, .color_index = 3, .parent_ranks = {2}}),
              HasSubstr("it sent a split of color 3 of 3"));
  EXPECT_THAT(error({.group = 3, .color_index = 0, .parent_ranks = {}}), HasSubstr("16 bytes"));
  EXPECT_THAT(error({.group = 3, .color_index = 0, .parent_ranks = {2, 2}}),
              HasSubstr("a split with rank 2 of 3 twice"));
  EXPECT_THAT(error({.group = 3, .color_index = 0, .parent_ranks = {2, 3}}),
              HasSubstr("a split with rank 3 of 3"));
  EXPECT_THAT(error({.group = 3, .color_index = 0, .parent_ranks = {2, -1}}),
              HasSubstr("a split with rank -1 of 3"));
  EXPECT_THAT(error({.group = 3, .color_index = 0, .parent_ranks = {0, 1}}),
              HasSubstr("a split without rank 2, to which it went"));
  EXPECT_THAT(error({.group = 3, .color_index = 0, .parent_ranks = {0, 1, 2, 0}}),
              HasSubstr("a split of 48 bytes"));
  EXPECT_THAT(std::string(NcclSplit::Decode(std::vector<std::byte>(7), 0, 1).status().message()),
              HasSubstr("a split of 7 bytes"));
}

}  // namespace
}  // namespace strake
