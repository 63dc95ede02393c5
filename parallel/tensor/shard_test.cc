#include "parallel/tensor/shard.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/base/philox.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::SameBits;
using testing::TestTensor;

constexpr int kMaxRanks = 16;

// Uniform integers, a new one with each call.
class RandomIntegers {
 public:
  explicit RandomIntegers(uint64_t seed) : philox_(seed, RandomUse::kTesting) {}
  int64_t operator()(int64_t low, int64_t high) {
    return low + philox_.Bits(index_++) % (high - low + 1);
  }

 private:
  Philox philox_;
  uint64_t index_ = 0;
};

// Fills with arbitrary bytes, which expose copies that interpret them (NaN, the sign of zero).
void FillBytes(const Tensor& x, uint64_t seed) {
  const Philox philox(seed, RandomUse::kTesting);
  for (size_t i = 0; i < x.num_bytes(); ++i) {
    static_cast<char*>(x.raw())[i] = static_cast<char>(philox.Bits(i));
  }
}

// Element i holds i.
void FillIndices(const Tensor& x) {
  std::iota(x.data<int64_t>(), x.data<int64_t>() + x.num_elements(), 0);
}

std::vector<int64_t> Elements(const Tensor& x) {
  return {x.data<int64_t>(), x.data<int64_t>() + x.num_elements()};
}

std::vector<int64_t> SliceOf(const WeightShards& shards, const Tensor& full, int rank) {
  TestTensor shard(DType::kI64, shards.shard_shape());
  shards.Slice(full, rank, shard);
  return Elements(shard);
}

struct SplitCase {
  Shape shape;
  int dim;
  std::vector<ShardSegment> segments;
  int num_ranks;

  WeightShards Split() const {
    auto shards = WeightShards::Split(shape, dim, segments, num_ranks);
    EXPECT_TRUE(shards.ok()) << shards.status();
    return std::move(shards).value();
  }
};

// Up to four segments, any of which may be replicable, in any dimension of up to three.
SplitCase RandomSplit(RandomIntegers& random) {
  SplitCase c;
  c.num_ranks = random(1, kMaxRanks);
  c.shape.resize(random(1, 3));
  for (int64_t& size : c.shape) size = random(0, 4);
  c.dim = random(0, c.shape.size() - 1);
  c.shape[c.dim] = 0;
  const int64_t num_segments = random(1, 4);
  for (int64_t s = 0; s < num_segments; ++s) {
    int64_t units = c.num_ranks * random(0, 3);
    const bool replicable = random(0, 1) == 1;
    if (replicable && random(0, 1) == 1) {
      do units = random(1, c.num_ranks);
      while (c.num_ranks % units != 0);
    }
    c.segments.push_back({"units", units, random(1, 3), replicable});
    c.shape[c.dim] += c.segments.back().size();
  }
  return c;
}

TEST(ShardTest, RangesAreContiguousDisjointAndCoverEverything) {
  RandomIntegers random(1);
  for (int i = 0; i < 5000; ++i) {
    const int num_ranks = random(1, kMaxRanks);
    const int64_t local = random(0, 5000);
    int64_t end = 0;
    for (int rank = 0; rank < num_ranks; ++rank) {
      const auto columns = ColumnShard(local * num_ranks, num_ranks, rank);
      ASSERT_TRUE(columns.ok()) << columns.status();
      ASSERT_EQ(columns->begin, end);
      ASSERT_EQ(columns->size(), local);
      ASSERT_EQ(*columns, RowShard(local * num_ranks, num_ranks, rank).value());
      end = columns->end;
    }
    ASSERT_EQ(end, local * num_ranks);
  }
}

TEST(ShardTest, WhatDoesNotDivideIsAnErrorThatNamesIt) {
  EXPECT_EQ(ColumnShard(10, 4, 0).status(),
            absl::InvalidArgumentError(
                "[shard] 10 columns cannot be divided over 4 tensor-parallel ranks: choose a "
                "tensor-parallel size that divides 10"));
  EXPECT_EQ(RowShard(3, 16, 15).status(),
            absl::InvalidArgumentError(
                "[shard] 3 rows cannot be divided over 16 tensor-parallel ranks: choose a "
                "tensor-parallel size that divides 3"));
  int errors = 0;
  for (int64_t size = 0; size < 200; ++size) {
    for (int num_ranks = 1; num_ranks <= kMaxRanks; ++num_ranks) {
      const bool ok = EvenShard("layers", size, num_ranks, 0).ok();
      EXPECT_EQ(ok, size % num_ranks == 0) << size << " over " << num_ranks;
      errors += !ok;
    }
  }
  EXPECT_GT(errors, 0);
}

TEST(ShardTest, KeyValueHeadsAreDividedOrReplicatedOnNeighbours) {
  const auto key_value = [](int64_t num_kv_heads, int num_ranks, int rank) {
    return AttentionHeadShard(16, num_kv_heads, num_ranks, rank).value().key_value;
  };
  EXPECT_EQ(key_value(8, 4, 3), (HeldRange{{6, 8}, {3, 4}}));
  EXPECT_EQ(key_value(4, 4, 1), (HeldRange{{1, 2}, {1, 2}}));
  EXPECT_EQ(key_value(2, 8, 3), (HeldRange{{0, 1}, {0, 4}}));
  EXPECT_EQ(key_value(2, 8, 4), (HeldRange{{1, 2}, {4, 8}}));
  EXPECT_EQ(key_value(1, 16, 15), (HeldRange{{0, 1}, {0, 16}}));
  EXPECT_EQ(key_value(1, 1, 0), (HeldRange{{0, 1}, {0, 1}}));
}

TEST(ShardTest, EachQueryHeadFindsItsKeyValueHeadOnItsRank) {
  int layouts = 0;
  for (int64_t kv_heads = 1; kv_heads <= 16; ++kv_heads) {
    for (int64_t heads = kv_heads; heads <= 64; heads += kv_heads) {
      for (int num_ranks = 1; num_ranks <= kMaxRanks; ++num_ranks) {
        const bool fits =
            heads % num_ranks == 0 && (kv_heads % num_ranks == 0 || num_ranks % kv_heads == 0);
        ASSERT_EQ(AttentionHeadShard(heads, kv_heads, num_ranks, 0).ok(), fits);
        if (!fits) continue;
        ++layouts;
        int64_t query_end = 0;
        std::vector<int> holders(kv_heads);
        for (int rank = 0; rank < num_ranks; ++rank) {
          const auto shard = AttentionHeadShard(heads, kv_heads, num_ranks, rank);
          ASSERT_TRUE(shard.ok()) << shard.status();
          ASSERT_EQ(shard->query.begin, query_end);
          query_end = shard->query.end;
          const HeldRange& kv = shard->key_value;
          ASSERT_EQ(kv.range.begin, shard->query.begin / (heads / kv_heads));
          ASSERT_EQ(kv.range.end, (shard->query.end - 1) / (heads / kv_heads) + 1);
          ASSERT_TRUE(kv.holders.Contains(rank));
          for (int64_t h = kv.range.begin; h < kv.range.end; ++h) ++holders[h];
          // All ranks that are named as holders hold the same heads.
          for (int other = kv.holders.begin; other < kv.holders.end; ++other) {
            ASSERT_EQ(AttentionHeadShard(heads, kv_heads, num_ranks, other)->key_value, kv);
          }
        }
        ASSERT_EQ(query_end, heads);
        const int64_t expected = std::max<int64_t>(1, num_ranks / kv_heads);
        ASSERT_EQ(holders, std::vector<int>(kv_heads, expected));
      }
    }
  }
  EXPECT_GT(layouts, 100);
}

TEST(ShardTest, HeadsThatDoNotFitAreNamed) {
  EXPECT_EQ(AttentionHeadShard(12, 12, 5, 0).status(),
            absl::InvalidArgumentError(
                "[shard] 12 query heads cannot be divided over 5 tensor-parallel ranks: choose a "
                "tensor-parallel size that divides 12"));
  EXPECT_EQ(AttentionHeadShard(12, 3, 4, 0).status(),
            absl::InvalidArgumentError(
                "[shard] 3 key/value heads can be neither divided over nor replicated on 4 "
                "tensor-parallel ranks: choose a tensor-parallel size that divides 3 or is a "
                "multiple of it"));
  EXPECT_EQ(AttentionHeadShard(12, 6, 4, 0).status(),
            absl::InvalidArgumentError(
                "[shard] 6 key/value heads can be neither divided over nor replicated on 4 "
                "tensor-parallel ranks: choose a tensor-parallel size that divides 6 or is a "
                "multiple of it"));
  EXPECT_EQ(AttentionHeadShard(12, 5, 1, 0).status(),
            absl::InvalidArgumentError(
                "[shard] 12 query heads cannot be divided over 5 key/value heads: choose a number "
                "of key/value heads that divides 12"));
}

TEST(ShardTest, VocabularyIsPaddedAtTheEnd) {
  const VocabRange gpt2 = VocabShard(50257, 8, 7, /*multiple=*/1);
  EXPECT_EQ(gpt2.padded_size, 50264);
  EXPECT_EQ(gpt2.held, (ShardRange{43981, 50264}));
  EXPECT_EQ(gpt2.tokens, (ShardRange{43981, 50257}));
  EXPECT_EQ(gpt2.num_padding(), 7);
  EXPECT_EQ(VocabShard(50257, 8, 6, 1).num_padding(), 0);
  // The next multiple of both, not of their product.
  EXPECT_EQ(VocabShard(50257, 8, 0, 128).padded_size, 50304);
  EXPECT_EQ(VocabShard(50257, 3, 0, 128).padded_size, 50304);
  EXPECT_EQ(VocabShard(50257, 1, 0, 1).padded_size, 50257);
  // A model has whole tiles on each rank, unless the vocabulary is small.
  EXPECT_EQ(VocabShard(50257, 1, 0).padded_size, 50304);
  EXPECT_EQ(VocabShard(50257, 8, 0).held.size(), 6400);
  EXPECT_EQ(VocabShard(128256, 2, 0).padded_size, 128256);
  EXPECT_EQ(VocabShard(4096, 2, 0).padded_size, 4096);
  EXPECT_EQ(VocabShard(4095, 1, 0).padded_size, 4095);
  // Two entries for each rank: the last rank has no token.
  EXPECT_EQ(VocabShard(5, 4, 2).tokens, (ShardRange{4, 5}));
  EXPECT_EQ(VocabShard(5, 4, 3).tokens.size(), 0);
  EXPECT_EQ(VocabShard(5, 4, 3).num_padding(), 2);
}

TEST(ShardTest, EachTokenLiesOnOneRank) {
  RandomIntegers random(2);
  for (int i = 0; i < 5000; ++i) {
    const int num_ranks = random(1, kMaxRanks);
    const int64_t vocab_size = random(0, 3000), multiple = random(0, 1) == 1 ? 128 : random(1, 9);
    int64_t held_end = 0, tokens_end = 0, padding = 0;
    for (int rank = 0; rank < num_ranks; ++rank) {
      const VocabRange vocab = VocabShard(vocab_size, num_ranks, rank, multiple);
      ASSERT_EQ(vocab.padded_size % num_ranks, 0);
      ASSERT_EQ(vocab.padded_size % multiple, 0);
      ASSERT_LT(vocab.padded_size - vocab_size, std::lcm(num_ranks, multiple));
      ASSERT_EQ(vocab.held.begin, held_end);
      ASSERT_EQ(vocab.held.size(), vocab.padded_size / num_ranks);
      ASSERT_EQ(vocab.tokens.begin, tokens_end);
      ASSERT_TRUE(vocab.tokens.size() == 0 || vocab.tokens.begin == vocab.held.begin);
      held_end = vocab.held.end;
      tokens_end = vocab.tokens.end;
      padding += vocab.num_padding();
    }
    ASSERT_EQ(held_end, vocab_size + padding);
    ASSERT_EQ(tokens_end, vocab_size);
  }
}

TEST(WeightShardsTest, ColumnsAndRows) {
  TestTensor full(DType::kI64, {2, 6});
  FillIndices(full);
  const auto columns = WeightShards::Split({2, 6}, -1, {{"columns", 6}}, 3);
  ASSERT_TRUE(columns.ok()) << columns.status();
  EXPECT_EQ(columns->dim(), 1);
  EXPECT_EQ(columns->shard_shape(), (Shape{2, 2}));
  EXPECT_EQ(SliceOf(*columns, full, 1), (std::vector<int64_t>{2, 3, 8, 9}));
  const auto rows = WeightShards::Split({2, 6}, 0, {{"rows", 2}}, 2);
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ(SliceOf(*rows, full, 1), (std::vector<int64_t>{6, 7, 8, 9, 10, 11}));
}

TEST(WeightShardsTest, FusedSegmentsAreCutOneByOne) {
  // Four query heads and two key/value heads of size 2: Q = 0..7, K = 8..11, V = 12..15.
  const std::vector<ShardSegment> qkv = QkvSegments(4, 2, 2);
  TestTensor full(DType::kI64, {1, 16});
  FillIndices(full);
  const auto two = WeightShards::Split({1, 16}, 1, qkv, 2);
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(SliceOf(*two, full, 0), (std::vector<int64_t>{0, 1, 2, 3, 8, 9, 12, 13}));
  EXPECT_EQ(SliceOf(*two, full, 1), (std::vector<int64_t>{4, 5, 6, 7, 10, 11, 14, 15}));
  const auto four = WeightShards::Split({1, 16}, 1, qkv, 4);
  ASSERT_TRUE(four.ok()) << four.status();
  EXPECT_EQ(SliceOf(*four, full, 1), (std::vector<int64_t>{2, 3, 8, 9, 12, 13}));
  EXPECT_EQ(SliceOf(*four, full, 2), (std::vector<int64_t>{4, 5, 10, 11, 14, 15}));

  TestTensor bias(DType::kI64, {8});
  FillIndices(bias);
  const auto gate_up = WeightShards::Split({8}, 0, GateUpSegments(4), 2);
  ASSERT_TRUE(gate_up.ok()) << gate_up.status();
  EXPECT_EQ(SliceOf(*gate_up, bias, 1), (std::vector<int64_t>{2, 3, 6, 7}));
}

TEST(WeightShardsTest, SegmentsThatDoNotFitAreNamed) {
  EXPECT_EQ(WeightShards::Split({8, 10}, 1, GateUpSegments(5), 2).status(),
            absl::InvalidArgumentError(
                "[shard] 5 columns of gate cannot be divided over 2 tensor-parallel ranks: choose "
                "a tensor-parallel size that divides 5"));
  // 6 heads of size 4: 4 ranks divide the 24 columns, and not the heads.
  EXPECT_EQ(WeightShards::Split({8, 72}, 1, QkvSegments(6, 6, 4), 4).status(),
            absl::InvalidArgumentError(
                "[shard] 6 query heads cannot be divided over 4 tensor-parallel ranks: choose a "
                "tensor-parallel size that divides 6"));
  EXPECT_EQ(WeightShards::Split({8, 18}, 1, QkvSegments(12, 3, 1), 4).status(),
            absl::InvalidArgumentError(
                "[shard] 3 key/value heads can be neither divided over nor replicated on 4 "
                "tensor-parallel ranks: choose a tensor-parallel size that divides 3 or is a "
                "multiple of it"));
}

TEST(WeightShardsTest, VocabularyPaddingIsZero) {
  TestTensor full(DType::kI64, {3, 2});
  FillIndices(full);
  const WeightShards rows = WeightShards::Vocab({3, 2}, 0, 2);
  EXPECT_EQ(rows.shard_shape(), (Shape{2, 2}));
  EXPECT_EQ(SliceOf(rows, full, 0), (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(SliceOf(rows, full, 1), (std::vector<int64_t>{4, 5, 0, 0}));
  TestTensor head(DType::kI64, {2, 3});
  FillIndices(head);
  EXPECT_EQ(SliceOf(WeightShards::Vocab({2, 3}, 1, 2), head, 1),
            (std::vector<int64_t>{2, 0, 5, 0}));
}

TEST(WeightShardsTest, PiecesOfAllRanksCoverEachIndexOncePerHolder) {
  RandomIntegers random(3);
  int replicated = 0;
  for (int i = 0; i < 3000; ++i) {
    const SplitCase c = RandomSplit(random);
    const WeightShards shards = c.Split();
    std::vector<int64_t> holders(c.shape[c.dim]), claimed(c.shape[c.dim]), owners(c.shape[c.dim]);
    for (int rank = 0; rank < c.num_ranks; ++rank) {
      ASSERT_EQ(shards.Pieces(rank).size(), c.segments.size());
      int64_t local_end = 0, segment_begin = 0;
      for (int s = 0; s < c.segments.size(); ++s) {
        const WeightShards::Piece& piece = shards.Pieces(rank)[s];
        const ShardRange& range = piece.full.range;
        ASSERT_EQ(piece.local_begin, local_end);
        local_end += range.size();
        // Within its segment, and whole units.
        const int64_t segment_end = segment_begin + c.segments[s].size();
        ASSERT_TRUE(segment_begin <= range.begin && range.end <= segment_end);
        ASSERT_EQ((range.begin - segment_begin) % c.segments[s].unit_size, 0);
        ASSERT_EQ(range.size() % c.segments[s].unit_size, 0);
        segment_begin = segment_end;
        ASSERT_TRUE(piece.full.holders.Contains(rank));
        replicated += piece.full.holders.size() > 1;
        for (int64_t k = range.begin; k < range.end; ++k) {
          ++holders[k];
          claimed[k] = piece.full.holders.size();
          owners[k] += piece.full.holders.begin == rank;
        }
      }
      ASSERT_EQ(local_end, shards.shard_shape()[c.dim]);
    }
    ASSERT_EQ(holders, claimed);
    ASSERT_EQ(owners, std::vector<int64_t>(owners.size(), 1));
  }
  EXPECT_GT(replicated, 100);
}

void ExpectSliceThenJoinGivesTheSameBits(const WeightShards& shards, DType dtype, uint64_t seed) {
  TestTensor full(dtype, shards.full_shape()), joined(dtype, shards.full_shape());
  FillBytes(full, seed);
  std::vector<std::unique_ptr<TestTensor>> memory;
  std::vector<Tensor> parts;
  for (int rank = 0; rank < shards.num_ranks(); ++rank) {
    memory.push_back(std::make_unique<TestTensor>(dtype, shards.shard_shape()));
    parts.push_back(*memory.back());
    shards.Slice(full, rank, parts.back());
  }
  shards.Join(parts, joined);
  ASSERT_TRUE(SameBits(joined, full))
      << full->ToString() << " over " << shards.num_ranks() << " ranks";
}

TEST(WeightShardsTest, SliceThenJoinGivesTheSameBits) {
  RandomIntegers random(4);
  const DType dtypes[] = {DType::kF32, DType::kBf16, DType::kF64, DType::kC128,
                          DType::kI32, DType::kI64,  DType::kU16};
  for (int i = 0; i < 2000; ++i) {
    const DType dtype = dtypes[i % std::size(dtypes)];
    const SplitCase c = RandomSplit(random);
    ExpectSliceThenJoinGivesTheSameBits(c.Split(), dtype, i);
    const Shape shape = {random(0, 40), random(0, 5)};
    const int num_ranks = random(1, kMaxRanks), dim = random(0, 1);
    ExpectSliceThenJoinGivesTheSameBits(WeightShards::Vocab(shape, dim, num_ranks, random(1, 4)),
                                        dtype, i);
    ExpectSliceThenJoinGivesTheSameBits(WeightShards::Replicated(shape, num_ranks), dtype, i);
    if (HasFatalFailure()) return;
  }
}

TEST(WeightShardsTest, OnlyTheOwnerOfAReplicaIsPlaced) {
  const auto shards = WeightShards::Split({2}, 0, {{"key/value heads", 2, 1, true}}, 4);
  ASSERT_TRUE(shards.ok()) << shards.status();
  TestTensor full(DType::kI64, {2}), part(DType::kI64, {1});
  full->data<int64_t>()[0] = full->data<int64_t>()[1] = -1;
  for (const int rank : {2, 3, 0, 1}) {
    part->data<int64_t>()[0] = rank;
    shards->Place(part, rank, full);
  }
  EXPECT_EQ(Elements(full), (std::vector<int64_t>{0, 2}));
}

TEST(WeightShardsTest, SizesOfALlamaLayer) {
  // 8 query heads, 2 key/value heads of size 4, 32 features, over 4 ranks.
  const auto qkv = WeightShards::Split({32, 48}, 1, QkvSegments(8, 2, 4), 4);
  ASSERT_TRUE(qkv.ok()) << qkv.status();
  EXPECT_EQ(qkv->NumElements(0), (ShardSizes{32 * 8, 32 * 8, 0, 32 * 16}));
  EXPECT_EQ(qkv->NumElements(1), (ShardSizes{32 * 8, 32 * 8, 0, 32 * 8}));
  EXPECT_EQ(qkv->NumBytes(1, DType::kBf16), (ShardSizes{32 * 16, 32 * 16, 0, 32 * 16}));
  const WeightShards norm = WeightShards::Replicated({32}, 4);
  EXPECT_EQ(norm.NumElements(0), (ShardSizes{0, 32, 0, 32}));
  EXPECT_EQ(norm.NumElements(3), (ShardSizes{0, 32, 0, 0}));
  const WeightShards embedding = WeightShards::Vocab({5, 32}, 0, 4);
  EXPECT_EQ(embedding.NumElements(2), (ShardSizes{32, 0, 32, 32}));
  EXPECT_EQ(embedding.NumElements(3), (ShardSizes{0, 0, 64, 0}));
  // With one rank nothing is held twice.
  EXPECT_EQ(WeightShards::Replicated({32}, 1).NumBytes(0, DType::kF32),
            (ShardSizes{128, 0, 0, 128}));
}

TEST(WeightShardsTest, SizesAddUp) {
  RandomIntegers random(5);
  for (int i = 0; i < 3000; ++i) {
    const SplitCase c = RandomSplit(random);
    const WeightShards of_kind[] = {c.Split(),
                                    WeightShards::Vocab(c.shape, c.dim, c.num_ranks, random(1, 5)),
                                    WeightShards::Replicated(c.shape, c.num_ranks)};
    for (const WeightShards& shards : of_kind) {
      ShardSizes sum;
      for (int rank = 0; rank < c.num_ranks; ++rank) {
        const ShardSizes sizes = shards.NumElements(rank);
        ASSERT_EQ(sizes.total(), NumElements(shards.shard_shape()));
        ASSERT_EQ(shards.NumBytes(rank, DType::kF64).total(), 8 * sizes.total());
        sum += sizes;
      }
      ASSERT_EQ(sum.owned, NumElements(c.shape));
      ASSERT_EQ(sum.total(), c.num_ranks * NumElements(shards.shard_shape()));
      ASSERT_GE(sum.owned, sum.sharded);
    }
  }
}

TEST(ShardDeathTest, ProgrammerErrorsPrintTheNumbers) {
  EXPECT_DEATH((void)ColumnShard(8, 4, 4), "\\[shard\\] rank 4 of 4");
  EXPECT_DEATH((void)VocabShard(8, 0, 0), "\\[shard\\] rank 0 of 0");
  EXPECT_DEATH((void)WeightShards::Replicated({}, 2), "dimension 0 of \\[\\]");
  EXPECT_DEATH((void)WeightShards::Split({4, 6}, 1, {{"columns", 8}}, 2),
               "8 vs. 6.*segments of dimension 1 of \\[4, 6\\]");
  const WeightShards shards = WeightShards::Vocab({4, 6}, 0, 2);
  EXPECT_DEATH((void)shards.Pieces(2), "\\[shard\\] rank 2 of 2");
  TestTensor full(DType::kF32, {4, 6}), shard(DType::kF32, {2, 6}), bf16(DType::kBf16, {2, 6});
  EXPECT_DEATH(shards.Slice(shard, 0, full),
               "\\[shard\\] slice: full f32\\[2, 6\\], shard f32\\[4, 6\\]; expected full "
               "\\[4, 6\\], shard \\[2, 6\\] of 2 ranks");
  EXPECT_DEATH(shards.Place(bf16, 0, full), "place: full f32\\[4, 6\\], shard bf16\\[2, 6\\]");
  EXPECT_DEATH(shards.Join({shard}, full), "1 vs. 2.*shards of \\[4, 6\\]");
}

}  // namespace
}  // namespace strake
