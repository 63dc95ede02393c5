#include "parallel/tensor/sharded_parameter.h"

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/tensor/layer_test_util.h"

namespace strake {
namespace {

using testing::ExpectPartsOfWhole;
using testing::FillNormal;
using testing::kRankCounts;

// Name, columns, full columns, first column, holders, owner, partial gradient.
using SegmentRow = std::tuple<std::string, int64_t, int64_t, int64_t, int, bool, bool>;

std::vector<SegmentRow> SegmentRows(const ParameterRecord& record) {
  std::vector<SegmentRow> rows;
  for (const ParameterSegment& s : record.segments) {
    rows.emplace_back(s.name, s.columns, s.slice.full_columns, s.slice.column_begin,
                      s.slice.num_holders, s.slice.owner, s.slice.partial_grad);
    EXPECT_EQ(s.slice.full_rows, s.slice.num_rows);
    EXPECT_EQ(s.slice.row_begin, 0);
  }
  return rows;
}

WeightShards Split(const Shape& shape, int dim, const std::vector<ShardSegment>& segments,
                   int num_ranks) {
  return WeightShards::Split(shape, dim, segments, num_ranks).value();
}

// Four query and two key/value heads of 2 columns on four ranks; rank 3 has the last of each.
TEST(ShardedParameterTest, ColumnsOfSeparateTensors) {
  const WeightShards shards = Split({5, 16}, 1, QkvSegments(4, 2, 2), 4);
  ParameterArena arena;
  AddShardedParameter({{"q", 8, true}, {"k", 4, true}, {"v", 4, true}}, shards,
                      TensorParallel::Planned(3, 4), true, {.mean = 1, .stddev = 2}, &arena);
  const ParameterRecord& qkv = arena.records()[0];
  EXPECT_EQ(qkv.shape(), (Shape{5, 6}));
  EXPECT_TRUE(qkv.weight_decay);
  EXPECT_EQ(qkv.init.mean, 1);
  EXPECT_EQ(qkv.init.stddev, 2);
  EXPECT_EQ(SegmentRows(qkv), (std::vector<SegmentRow>{{"q", 2, 8, 6, 1, true, false},
                                                       {"k", 2, 4, 2, 2, false, true},
                                                       {"v", 2, 4, 2, 2, false, true}}));
  EXPECT_EQ(qkv.segments[0].slice.full_rows, 5);
  EXPECT_TRUE(qkv.segments[1].transposed);
}

// GPT-2 keeps Q, K and V in one tensor: its three pieces are not one range.
TEST(ShardedParameterTest, ColumnsOfOneTensorInSeveralPieces) {
  const WeightShards shards = Split({12}, 0, QkvSegments(4, 4, 1), 2);
  ParameterArena arena;
  AddShardedParameter({{"c_attn.bias", 12}}, shards, TensorParallel::Planned(1, 2), false, {},
                      &arena);
  const ParameterRecord& bias = arena.records()[0];
  EXPECT_EQ(bias.shape(), Shape{6});
  EXPECT_EQ(SegmentRows(bias),
            (std::vector<SegmentRow>{{"c_attn.bias", 2, 12, 2, 1, true, false},
                                     {"c_attn.bias", 2, 12, 6, 1, true, false},
                                     {"c_attn.bias", 2, 12, 10, 1, true, false}}));
  EXPECT_EQ(bias.segments[0].slice.full_rows, 1);
}

TEST(ShardedParameterTest, RowsAndPaddedRows) {
  ParameterArena arena;
  AddShardedParameter({{"w", 3}}, Split({8, 3}, 0, {{"rows", 8}}, 4), TensorParallel::Planned(1, 4),
                      true, {}, &arena);
  const SegmentSlice& rows = arena.records()[0].segments[0].slice;
  EXPECT_EQ(rows.full_rows, 8);
  EXPECT_EQ(rows.full_columns, 3);
  EXPECT_EQ(rows.row_begin, 2);
  EXPECT_EQ(rows.num_rows, 2);
  EXPECT_TRUE(rows.owner);
  // Five tokens are padded to eight: rank 2 has one, rank 3 none.
  for (const auto& [rank, num_rows] : {std::pair{2, 1}, {3, 0}}) {
    AddShardedParameter({{"table", 3}}, WeightShards::Vocab({5, 3}, 0, 4),
                        TensorParallel::Planned(rank, 4), true, {}, &arena);
    const ParameterRecord& table = arena.records().back();
    EXPECT_EQ(table.shape(), (Shape{2, 3}));
    EXPECT_EQ(table.segments[0].slice.full_rows, 5);
    EXPECT_EQ(table.segments[0].slice.num_rows, num_rows);
  }
}

TEST(ShardedParameterTest, ReplicatedIsOwnedOnce) {
  for (const int t : {1, 3}) {
    for (int rank = 0; rank < t; ++rank) {
      for (const ReplicatedGrad grad : {ReplicatedGrad::kWhole, ReplicatedGrad::kPartial}) {
        ParameterArena arena;
        AddReplicatedParameter({{"norm", 4}}, {4}, TensorParallel::Planned(rank, t), grad, false,
                               {}, &arena);
        EXPECT_EQ(arena.records()[0].shape(), Shape{4});
        EXPECT_EQ(SegmentRows(arena.records()[0]),
                  (std::vector<SegmentRow>{
                      {"norm", 4, 4, 0, t, rank == 0, t > 1 && grad == ReplicatedGrad::kPartial}}));
      }
    }
  }
}

// Compares what WeightShards::Slice() puts into a parameter with what its segments describe.
void ExpectSegmentsDescribeTheSlices(const std::vector<ParameterSegment>& segments,
                                     const WeightShards& shards) {
  ParameterArena whole_arena;
  Parameter* whole = whole_arena.Add(segments, shards.full_shape(), true);
  ASSERT_TRUE(whole_arena.Allocate(DType::kF64, false).ok());
  FillNormal(whole->value, 1);
  std::vector<std::unique_ptr<ParameterArena>> arenas;
  std::vector<const ParameterRecord*> parts;
  for (int rank = 0; rank < shards.num_ranks(); ++rank) {
    ParameterArena& arena = *arenas.emplace_back(std::make_unique<ParameterArena>());
    const TensorParallel tp = TensorParallel::Planned(rank, shards.num_ranks());
    const Parameter* part = AddShardedParameter(segments, shards, tp, true, {}, &arena);
    ASSERT_TRUE(arena.Allocate(DType::kF64, false).ok());
    shards.Slice(whole->value, rank, part->value);
    parts.push_back(&arena.RecordOf(*part));
  }
  ExpectPartsOfWhole(parts, whole_arena.RecordOf(*whole), &Parameter::value);
}

TEST(ShardedParameterTest, SegmentsDescribeTheSlices) {
  for (const int t : kRankCounts) {
    SCOPED_TRACE(t);
    for (const int64_t kv : {1, 2, 3, 4, 8, 24}) {
      if (t % kv != 0 && kv % t != 0) continue;
      const auto heads = QkvSegments(24, kv, 2);
      const int64_t query = 24 * 2, key = kv * 2, out = query + 2 * key;
      ExpectSegmentsDescribeTheSlices({{"q", query}, {"k", key}, {"v", key}},
                                      Split({3, out}, 1, heads, t));
      ExpectSegmentsDescribeTheSlices({{"qkv", out}}, Split({3, out}, 1, heads, t));
      ExpectSegmentsDescribeTheSlices({{"bias", out}}, Split({out}, 0, heads, t));
    }
    // Queries, keys and values of one tensor, head by head.
    std::vector<ParameterSegment> heads;
    for (int64_t i = 0; i < 3 * 24; ++i) {
      const int64_t head = i % 24, part = i / 24;
      heads.push_back({"qkv",
                       2,
                       true,
                       {.full_rows = 3,
                        .full_columns = 3 * 24 * 2,
                        .column_begin = (3 * head + part) * 2,
                        .num_rows = 3}});
    }
    ExpectSegmentsDescribeTheSlices(heads, Split({3, 3 * 24 * 2}, 1, QkvSegments(24, 24, 2), t));
    const auto gate_up = GateUpSegments(24);
    ExpectSegmentsDescribeTheSlices({{"gate", 24}, {"up", 24}}, Split({5, 48}, 1, gate_up, t));
    ExpectSegmentsDescribeTheSlices({{"w", 5}}, Split({24, 5}, 0, {{"rows", 24}}, t));
    for (const int64_t vocab_size : {1, 5, 257}) {
      ExpectSegmentsDescribeTheSlices({{"table", 3}}, WeightShards::Vocab({vocab_size, 3}, 0, t));
    }
  }
}

TEST(ShardedParameterDeathTest, RanksMustAgree) {
  ParameterArena arena;
  EXPECT_DEATH(AddShardedParameter({{"w", 4}}, Split({4, 4}, 1, {{"columns", 4}}, 2),
                                   TensorParallel::Planned(0, 4), true, {}, &arena),
               "\\[sharded_parameter\\] w");
}

}  // namespace
}  // namespace strake
