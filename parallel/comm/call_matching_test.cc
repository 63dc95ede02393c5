#include "parallel/comm/call_matching.h"

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;
using Kind = CollectiveKind;

// A call of rank 1 of 3, of each kind.
std::vector<CollectiveCall> GoodCalls() {
  return {{.kind = Kind::kAllReduceSum, .dtype = DType::kC128, .count = 7},
          {.kind = Kind::kAllReduceMax, .count = 0},
          {.kind = Kind::kReduceScatterSum, .count = 6, .counts = {1, 0, 5}},
          {.kind = Kind::kAllGather, .count = 6, .counts = {1, 0, 5}},
          {.kind = Kind::kBroadcast, .count = 6, .peer = 1},
          {.kind = Kind::kAllToAll, .count = 6, .counts = {1, 0, 5}, .recv_counts = {9, 0, 9}},
          {.kind = Kind::kSend, .count = 6, .peer = 0},
          {.kind = Kind::kRecv, .count = 6, .peer = 2},
          {.kind = Kind::kBarrier, .sequence = -1},
          {.kind = Kind::kSplit, .color = -5, .key = -6}};
}

TEST(CheckCallTest, TakesACallOfEachKind) {
  for (const CollectiveCall& call : GoodCalls()) {
    EXPECT_TRUE(CheckCall(call, 1, 3).ok()) << CheckCall(call, 1, 3);
  }
}

TEST(CheckCallTest, NamesWhatCannotBe) {
  struct Case {
    Kind kind;
    std::function<void(CollectiveCall&)> change;
    std::string error;
  };
  constexpr int64_t kHuge = INT64_MAX;
  for (const Case& wrong : std::vector<Case>{
           {Kind::kBarrier, [](auto& call) { call.kind = static_cast<Kind>(10); },
            "has the kind 10, and not one from 0 to 9"},
           {Kind::kBarrier, [](auto& call) { call.dtype = static_cast<DType>(7); }, "the dtype 7"},
           {Kind::kBarrier, [](auto& call) { call.device = static_cast<Device>(2); },
            "the device 2"},
           {Kind::kBarrier, [](auto& call) { call.sequence = -2; }, "the sequence number -2"},
           {Kind::kBarrier, [](auto& call) { call.count = -1; }, "a count of -1"},
           {Kind::kBarrier, [](auto& call) { call.peer = 1; }, "the peer 1"},
           {Kind::kBarrier, [](auto& call) { call.counts = {0}; }, "a number of counts of 1"},
           {Kind::kAllReduceMax, [](auto& call) { call.dtype = DType::kC128; }, "an order"},
           {Kind::kAllReduceSum, [](auto& call) { call.count = kHuge; }, "9223372036854775807"},
           {Kind::kAllReduceSum,
            [](auto& call) {
              call.recv_counts = {1, 1, 1};
            },
            "a number of counts of 3"},
           {Kind::kReduceScatterSum, [](auto& call) { call.counts = {6}; },
            "a number of counts of 1, and not one for each of 3 ranks"},
           {Kind::kReduceScatterSum,
            [](auto& call) {
              call.counts = {-1, 2, 5};
            },
            "a count of -1"},
           {Kind::kReduceScatterSum,
            [](auto& call) {
              call.counts = {1, 1, 5};
            },
            "a sum of counts of 7, and not 6"},
           {Kind::kAllGather,
            [](auto& call) {
              call.counts = {kHuge, kHuge, 8};
            },
            "a count of 9"},
           {Kind::kAllGather,
            [](auto& call) {
              call.counts = {int64_t{1} << 50, int64_t{1} << 50, 0};
              call.count = int64_t{1} << 51;
            },
            "a count of 2251799813685248"},
           {Kind::kBroadcast, [](auto& call) { call.peer = 3; },
            "the peer 3, and not one from 0 to 2"},
           {Kind::kBroadcast, [](auto& call) { call.peer = -1; }, "the peer -1"},
           {Kind::kSend, [](auto& call) { call.peer = 1; }, "the peer 1, and not another rank"},
           {Kind::kRecv, [](auto& call) { call.peer = INT32_MIN; }, "the peer -2147483648"},
           {Kind::kAllToAll,
            [](auto& call) {
              call.recv_counts = {9, 0};
            },
            "a number of counts of 2"},
           {Kind::kAllToAll,
            [](auto& call) {
              call.recv_counts = {9, 1, 9};
            },
            "for itself a count of 0, and not 1"},
           {Kind::kAllToAll,
            [](auto& call) {
              call.recv_counts = {int64_t{1} << 50, 0, int64_t{1} << 50};
            },
            "a sum of counts of 2251799813685248"}}) {
    CollectiveCall call = GoodCalls()[static_cast<int>(wrong.kind)];
    ASSERT_EQ(call.kind, wrong.kind);
    wrong.change(call);
    const absl::Status status = CheckCall(call, 1, 3);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.error));
  }
}

TEST(CallMatchingTest, BothSidesOfAMessageNameThePairAlike) {
  EXPECT_EQ(SenderAndReceiver(1, {.kind = Kind::kSend, .peer = 2}), std::pair(1, 2));
  EXPECT_EQ(SenderAndReceiver(2, {.kind = Kind::kRecv, .peer = 1}), std::pair(1, 2));
  EXPECT_EQ(SenderAndReceiver(2, {.kind = Kind::kBroadcast, .peer = 1}), std::pair(-1, -1));
}

TEST(CallMatchingTest, ErrorsNameTheLowerRankFirst) {
  const CollectiveCall a{.kind = Kind::kBarrier, .site = {.file = "a.cc", .line = 1}};
  const CollectiveCall b{.kind = Kind::kSplit, .site = {.file = "b.cc", .line = 2}};
  EXPECT_EQ(RanksDisagree(3, b, 1, a), RanksDisagree(1, a, 3, b));
  EXPECT_EQ(RanksDisagree(1, a, 3, b),
            absl::FailedPreconditionError("ranks disagree: rank 1 called barrier #0 at a.cc:1; "
                                          "rank 3 called split #0 at b.cc:2"));
  EXPECT_EQ(RankLeft(2, "tp", a),
            absl::AbortedError("rank 2 of axis tp left the group before barrier #0 at a.cc:1"));
}

}  // namespace
}  // namespace strake
