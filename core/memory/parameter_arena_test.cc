#include "core/memory/parameter_arena.h"

#include "core/tensor/tensor_buffer.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(ParameterArenaTest, OneIndexSpaceInForwardOrder) {
  ParameterArena arena;
  Parameter* w = arena.Add({{"q", 2, true}, {"k", 1, true}}, {5, 3}, true);
  Parameter* b = arena.Add({{"b", 3}}, {3}, false);
  ASSERT_EQ(arena.records().size(), 2);
  EXPECT_EQ(&arena.records()[0].parameter, w);
  EXPECT_EQ(&arena.records()[1].parameter, b);
  EXPECT_EQ(&arena.RecordOf(*b), &arena.records()[1]);
  EXPECT_EQ(arena.records()[0].offset, 0);
  EXPECT_EQ(arena.records()[0].end(), 15);
  EXPECT_EQ(arena.records()[1].offset, 64);
  EXPECT_EQ(arena.num_elements(), 128);
  EXPECT_EQ(arena.num_parameters(), 18);
  ASSERT_TRUE(arena.Allocate(DType::kBf16, true).ok());
  EXPECT_EQ(b->value.dtype(), DType::kBf16);
  EXPECT_EQ(b->grad.dtype(), DType::kF32);
  EXPECT_EQ(arena.grad_dtype(), DType::kF32);
  b->grad.data<float>()[2] = 3;
  EXPECT_EQ(arena.grads().data<float>()[66], 3);
  EXPECT_EQ(arena.records()[0].name(), "q");
}

TEST(ParameterArenaTest, CompletesTheSlicesOfWholeTensorsAlone) {
  ParameterArena arena;
  const SegmentSlice given = {.full_rows = 5, .full_columns = 4, .column_begin = 2, .num_rows = 5};
  arena.Add({{"q", 2, true}, {"k", 1, true, given}}, {5, 3}, true);
  arena.Add({{"b", 3}}, {3}, false);
  const ParameterRecord& w = arena.records()[0];
  const ParameterRecord& b = arena.records()[1];
  const SegmentSlice& q = w.segments[0].slice;
  EXPECT_EQ(q.full_rows, 5);
  EXPECT_EQ(q.full_columns, 2);
  EXPECT_EQ(q.num_rows, 5);
  EXPECT_TRUE(q.owner && !q.partial_grad && q.num_holders == 1);
  EXPECT_EQ(w.segments[1].slice.full_columns, 4);
  EXPECT_EQ(b.segments[0].slice.full_rows, 1);
  EXPECT_EQ(b.segments[0].slice.num_rows, 1);
}

TEST(ParameterArenaTest, GroupsFillMultiples) {
  ParameterArena arena;
  for (const int64_t size : {10, 100, 64, 65}) arena.Add({{"w", size}}, {size}, true);
  EXPECT_EQ(arena.num_elements(), 384);
  const auto offsets = [&] {
    std::vector<int64_t> all;
    for (const ParameterRecord& record : arena.records()) all.push_back(record.offset);
    return all;
  };
  arena.PadGroups({0, 1, 3}, 192);
  EXPECT_EQ(offsets(), (std::vector<int64_t>{0, 192, 320, 384}));
  EXPECT_EQ(arena.num_elements(), 576);
  arena.PadGroups({0, 1, 3}, 64);
  EXPECT_EQ(offsets(), (std::vector<int64_t>{0, 64, 192, 256}));
  EXPECT_EQ(arena.num_elements(), 384);
  EXPECT_EQ(arena.num_parameters(), 239);
}

TEST(ArenaPartTest, PartsOfAnArrayFollowEachOther) {
  const TensorBuffer array(DType::kF32, {192});
  for (int i = 0; i < 192; ++i) array.tensor().data<float>()[i] = static_cast<float>(i);
  const std::vector<ArenaPart> parts = PartsOf({{64, 128}, {256, 256}, {256, 384}}, array);
  ASSERT_EQ(parts.size(), 3);
  EXPECT_EQ(parts[1].range(), (ShardRange{256, 256}));
  EXPECT_EQ(parts[2].range(), (ShardRange{256, 384}));
  EXPECT_EQ(parts[2].Rows({300, 310}).data<float>()[0], 64 + 300 - 256);
  EXPECT_DEATH((void)PartsOf({{0, 191}}, array), "elements of the ranges");
}

TEST(ParameterArenaTest, DryRunHasShapesAndNoMemory) {
  ParameterArena arena;
  Parameter* w = arena.Add({{"w", 4}}, {4}, true);
  arena.AllocateDryRun(DType::kF32);
  EXPECT_EQ(w->value.shape(), (Shape{4}));
  EXPECT_EQ(w->value.raw(), nullptr);
  EXPECT_EQ(w->grad.raw(), nullptr);
}

TEST(ParameterArenaDeathTest, SegmentsMustFillTheColumns) {
  ParameterArena arena;
  EXPECT_DEATH(arena.Add({{"q", 2}, {"k", 2}}, {5, 3}, true), "segments of q \\[5, 3\\]");
}

TEST(ParameterArenaDeathTest, HasNoRecordOfAnotherArenasParameter) {
  ParameterArena arena, other;
  arena.Add({{"w", 4}}, {4}, true);
  const Parameter* w = other.Add({{"w", 4}}, {4}, true);
  EXPECT_DEATH((void)arena.RecordOf(*w), "a parameter \\[4\\] of another arena");
}

}  // namespace
}  // namespace strake
