#include "core/device/op_call.h"

#include <cstdint>
#include <vector>

#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/memory/activation_arena.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

Tensor T(const Shape& shape, DType dtype = DType::kF32) { return Tensor(nullptr, dtype, shape); }

TEST(OpCallTest, CountsWhatIsReadAndWritten) {
  OpCall call = {.op = "op"};
  call.In("x", T({3, 5})).Out("y", T({7}, DType::kBf16)).InOut("z", T({2}, DType::kF64));
  EXPECT_EQ(call.cost.bytes, 3 * 5 * 4 + 7 * 2 + 2 * 2 * 8);
  call.In("rows", T({100, 100}), 12).InOut("table", T({100}), 8);
  EXPECT_EQ(call.cost.bytes, 3 * 5 * 4 + 7 * 2 + 2 * 2 * 8 + 12 + 2 * 8);
  EXPECT_EQ(call.ShapeOf("x"), (Shape{3, 5}));
  EXPECT_EQ(call.Find("table")->role, OpRole::kInOut);
}

TEST(OpCallTest, NoSizeOverflows) {
  constexpr int64_t kLarge = int64_t{1} << 40;
  OpCall call = {.op = "op"};
  EXPECT_EQ(call.In("x", T({kLarge, kLarge})).cost.bytes, 0x1p82);
}

TEST(OpCallTest, UndefinedOperandsAreNone) {
  OpCall call = {.op = "op"};
  call.In("x", Tensor());
  EXPECT_FALSE(call.Has("x"));
  EXPECT_EQ(call.cost.bytes, 0);
}

TEST(OpCallTest, AnAttributeMayBeMissing) {
  OpCall call = {.op = "op"};
  call.Set("window", 3);
  EXPECT_EQ(call.GetOr("window", 7), 3);
  EXPECT_EQ(call.GetOr("scale", 7), 7);
}

TEST(OpCallTest, EqualCallsHaveEqualTexts) {
  const auto make = [](int64_t size, double eps) {
    OpCall call = {.op = "norm", .pass = Pass::kBackward};
    call.In("x", T({size})).Set("eps", eps);
    return call;
  };
  OpCall other = make(8, 0.1);
  other.times = 7;
  other.layer = "mlp norm";
  EXPECT_EQ(make(8, 0.1).ToString(), other.ToString());
  EXPECT_EQ(make(8, 0.5).ToString(), "norm backward, in x f32[8], eps 0.5");
  EXPECT_NE(make(8, 0.1).ToString(), make(9, 0.1).ToString());
  EXPECT_NE(make(8, 0.1).ToString(), make(8, 0.2).ToString());
}

TEST(OpRecorderTest, KnowsTheInnermostLayerAndRepetitions) {
  ThreadTeam team(1);
  ActivationArena arena = ActivationArena::DryRun(Device::kCpu);
  Context ctx(&team, &arena);
  OpRecorder recorder;
  ctx.set_recorder(&recorder);
  {
    const LayerScope outer(ctx, "attention");
    {
      const LayerScope inner(ctx, "qkv"), none(ctx, nullptr);
      recorder.Add({.op = "matmul"});
    }
    recorder.set_times(3);
    recorder.Add({.op = "rope", .pass = Pass::kBackward});
    recorder.Add({.op = "all_reduce_sum", .axis = "tp", .num_ranks = 2});
  }
  recorder.Add({.op = "sum"});
  const std::vector<OpCall>& calls = recorder.calls();
  ASSERT_EQ(calls.size(), 4u);
  EXPECT_EQ(calls[0].layer, "qkv");
  EXPECT_EQ(calls[0].times, 1);
  EXPECT_EQ(calls[1].layer, "attention");
  EXPECT_EQ(calls[1].times, 3);
  // A collective takes the pass of its predecessor.
  EXPECT_EQ(calls[2].pass, Pass::kBackward);
  EXPECT_EQ(calls[3].layer, "");
  EXPECT_EQ(calls[3].pass, Pass::kForward);
}

TEST(LayerScopeTest, DoesNothingWithoutARecorder) {
  ThreadTeam team(1);
  ActivationArena arena = ActivationArena::DryRun(Device::kCpu);
  const Context ctx(&team, &arena);
  const LayerScope scope(ctx, "mlp");
}

TEST(OpCallDeathTest, WhatIsNotThereIsNamed) {
  OpCall call = {.op = "norm"};
  EXPECT_DEATH(call.ShapeOf("x"), "no x in norm forward");
  EXPECT_DEATH(call.Get("eps"), "no eps in norm forward");
}

}  // namespace
}  // namespace strake
