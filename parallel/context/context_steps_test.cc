#include "parallel/context/context_steps.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

constexpr int kMaxRanks = 16;
constexpr int64_t kChunk = 4;  // tokens

using Steps = std::vector<std::vector<ContextStep>>;  // by rank

AttentionShape ShapeOf(int64_t window) { return {.seq_len = 2 * kChunk, .window = window}; }

Steps StepsOfAll(int num_ranks, int64_t window) {
  Steps all;
  for (int rank = 0; rank < num_ranks; ++rank) {
    all.push_back(ContextSteps({rank, num_ranks}, ShapeOf(window)));
  }
  return all;
}

// Calls body(number of ranks, window, their steps): windows from one token to more than all.
template <typename Body>
void ForEachRing(const Body& body) {
  for (int num_ranks = 1; num_ranks <= kMaxRanks; ++num_ranks) {
    const int64_t seq_len = 2 * kChunk * num_ranks;
    for (const int64_t window :
         {int64_t{0}, int64_t{1}, int64_t{2}, kChunk - 1, kChunk, kChunk + 1, kChunk + 2,
          3 * kChunk, 3 * kChunk + 2, seq_len / 2, seq_len - 1, seq_len, seq_len + 1}) {
      SCOPED_TRACE(absl::StrCat(num_ranks, " ranks, window ", window));
      body(num_ranks, window, StepsOfAll(num_ranks, window));
    }
  }
}

// The place of a rank's chunk in the sequence.
int PlaceOf(int rank, int chunk, int num_ranks) {
  return chunk == 0 ? rank : 2 * num_ranks - 1 - rank;
}

// Tries every pair of tokens of two places.
bool SeesToken(int query_place, int key_place, int64_t window) {
  for (int64_t i = query_place * kChunk; i < (query_place + 1) * kChunk; ++i) {
    for (int64_t j = key_place * kChunk; j < (key_place + 1) * kChunk; ++j) {
      if (j <= i && (window == 0 || i - j < window)) return true;
    }
  }
  return false;
}

TEST(ContextStepsTest, EveryPairThatSeesSomethingIsComputedOnce) {
  ForEachRing([](int num_ranks, int64_t window, const Steps& all) {
    std::map<std::pair<int, int>, int> times;
    for (int rank = 0; rank < num_ranks; ++rank) {
      ASSERT_EQ(all[rank].size(), num_ranks);
      for (const ContextStep& step : all[rank]) {
        for (const ContextTile& tile : step.tiles) {
          ++times[{PlaceOf(rank, tile.queries, num_ranks),
                   PlaceOf(step.from, tile.keys, num_ranks)}];
        }
      }
    }
    for (int q = 0; q < 2 * num_ranks; ++q) {
      for (int k = 0; k < 2 * num_ranks; ++k) {
        const auto pair = std::make_pair(q, k);
        EXPECT_EQ(times[pair], SeesToken(q, k, window)) << q << " sees " << k;
      }
    }
  });
}

TEST(ContextStepsTest, QueriesMeetTheirOwnChunkFirst) {
  ForEachRing([](int /*num_ranks*/, int64_t /*window*/, const Steps& all) {
    for (const std::vector<ContextStep>& steps : all) {
      std::array<bool, 2> begun{};
      for (const ContextTile& tile : steps[0].tiles) {
        EXPECT_TRUE(begun[tile.queries] || tile.keys == tile.queries);
        begun[tile.queries] = true;
      }
      EXPECT_TRUE(begun[0] && begun[1]);
    }
  });
}

TEST(ContextStepsTest, JustWhatIsSeenMoves) {
  ForEachRing([](int /*num_ranks*/, int64_t /*window*/, const Steps& all) {
    for (const std::vector<ContextStep>& steps : all) {
      EXPECT_EQ(steps[0].received.size() + steps[0].sent.size(), 0);
      for (size_t s = 1; s < steps.size(); ++s) {
        for (const int chunk : {0, 1}) {
          const bool seen =
              std::any_of(steps[s].tiles.begin(), steps[s].tiles.end(),
                          [&](const ContextTile& tile) { return tile.keys == chunk; });
          EXPECT_EQ(steps[s].received.Contains(chunk), seen) << "step " << s << ", chunk " << chunk;
        }
      }
    }
  });
}

TEST(ContextStepsTest, WhatOneRankSendsAnotherReceives) {
  ForEachRing([](int num_ranks, int64_t /*window*/, const Steps& all) {
    for (int rank = 0; rank < num_ranks; ++rank) {
      for (int s = 0; s < num_ranks; ++s) {
        const ContextStep& step = all[rank][s];
        EXPECT_EQ(step.from, (rank - s + num_ranks) % num_ranks);
        EXPECT_EQ(all[step.to][s].from, rank);
        EXPECT_EQ(all[step.to][s].received, step.sent) << "rank " << rank << ", step " << s;
      }
    }
  });
}

// Without a window: a chunk from each lower rank, and two from each higher one.
TEST(ContextStepsTest, WorkIsEqual) {
  for (int num_ranks = 1; num_ranks <= kMaxRanks; ++num_ranks) {
    const Steps all = StepsOfAll(num_ranks, /*window=*/0);
    for (int rank = 0; rank < num_ranks; ++rank) {
      int64_t num_received = 0;
      for (int s = 0; s < num_ranks; ++s) {
        EXPECT_EQ(all[rank][s].tiles.size(), s == 0 ? 3 : 2);
        num_received += all[rank][s].received.size();
      }
      EXPECT_EQ(num_received, rank + 2 * (num_ranks - 1 - rank));
    }
  }
}

}  // namespace
}  // namespace strake
