#include "parallel/comm/collective_call.h"

#include "gtest/gtest.h"

namespace strake {
namespace {

using Kind = CollectiveKind;

TEST(CollectiveCallTest, ToStringShowsWhatRanksCompare) {
  EXPECT_EQ((CollectiveCall{.kind = Kind::kAllReduceSum,
                            .sequence = 12,
                            .dtype = DType::kBf16,
                            .count = 7,
                            .site = {.file = "a.cc", .line = 3}})
                .ToString(),
            "all_reduce_sum #12 of bf16[7] at a.cc:3");
  EXPECT_EQ((CollectiveCall{.kind = Kind::kBroadcast,
                            .device = Device::kCuda,
                            .peer = 1,
                            .site = {.file = "a.cc", .line = 3}})
                .ToString(),
            "broadcast #0 of f32[0] from rank 1 at a.cc:3, on a GPU");
  EXPECT_EQ((CollectiveCall{.kind = Kind::kAllToAll,
                            .count = 3,
                            .counts = {1, 2},
                            .recv_counts = {0, 4},
                            .site = {.file = "a.cc", .line = 3}})
                .ToString(),
            "all_to_all #0 of f32[3] in pieces of 1, 2 for pieces of 0, 4 at a.cc:3");
  EXPECT_EQ((CollectiveCall{.kind = Kind::kRecv, .peer = 2, .site = {.file = "b.cc", .line = 1}})
                .ToString(),
            "recv #0 of f32[0] from rank 2 at b.cc:1");
  EXPECT_EQ(
      (CollectiveCall{.kind = Kind::kBarrier, .site = {.file = "b.cc", .line = 1}}).ToString(),
      "barrier #0 at b.cc:1");
}

TEST(CollectiveCallTest, EachFieldCanDisagree) {
  const CollectiveCall a{
      .kind = Kind::kAllGather, .sequence = 1, .dtype = DType::kF64, .count = 5, .counts = {2, 3}};
  CollectiveCall b = a;
  b.site.line = 99;
  EXPECT_TRUE(CallsAgree(0, a, 1, b));
  const auto disagrees = [&](auto change) {
    CollectiveCall c = a;
    change(c);
    return !CallsAgree(0, a, 1, c) && !CallsAgree(1, c, 0, a);
  };
  EXPECT_TRUE(disagrees([](auto& c) { c.kind = Kind::kReduceScatterSum; }));
  EXPECT_TRUE(disagrees([](auto& c) { c.kind = Kind::kSend; }));
  EXPECT_TRUE(disagrees([](auto& c) { c.sequence = 2; }));
  EXPECT_TRUE(disagrees([](auto& c) { c.dtype = DType::kF32; }));
  EXPECT_TRUE(disagrees([](auto& c) { c.device = Device::kCuda; }));
  EXPECT_TRUE(disagrees([](auto& c) { c.count = 6; }));
  EXPECT_TRUE(disagrees([](auto& c) { c.counts = {3, 2}; }));
  EXPECT_TRUE(disagrees([](auto& c) { c.peer = 0; }));
}

TEST(CollectiveCallTest, SendFitsRecvAndAllToAllFitsPairwise) {
  CollectiveCall send{.kind = Kind::kSend, .count = 5, .peer = 1};
  CollectiveCall recv{.kind = Kind::kRecv, .count = 5, .peer = 0};
  EXPECT_TRUE(CallsAgree(0, send, 1, recv));
  EXPECT_FALSE(CallsAgree(0, send, 2, recv));
  EXPECT_FALSE(CallsAgree(0, send, 1, send));
  recv.count = 4;
  EXPECT_FALSE(CallsAgree(0, send, 1, recv));
  CollectiveCall a{.kind = Kind::kAllToAll, .count = 3, .counts = {1, 2}, .recv_counts = {1, 5}};
  CollectiveCall b{.kind = Kind::kAllToAll, .count = 9, .counts = {5, 4}, .recv_counts = {2, 4}};
  EXPECT_TRUE(CallsAgree(0, a, 1, b));
  b.recv_counts[0] = 3;
  EXPECT_FALSE(CallsAgree(0, a, 1, b));
}

}  // namespace
}  // namespace strake
