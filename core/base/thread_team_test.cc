#include "core/base/thread_team.h"

#include <atomic>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(ThreadTeamTest, CoversEveryIndexOnceInWholeGrains) {
  for (const int threads : {1, 2, 3, 5}) {
    ThreadTeam team(threads);
    for (const int64_t n : {0, 1, 2, 7, 64, 100}) {
      for (const int64_t grain : {1, 3, 64, 1000}) {
        std::vector<int> visits(n, 0);
        std::vector<int> ranges_of(threads, 0);
        team.ParallelForRanges(n, grain, [&](int range, int64_t begin, int64_t end) {
          ASSERT_LT(range, threads);
          ++ranges_of[range];
          EXPECT_LT(begin, end);
          EXPECT_EQ(begin % grain, 0);
          EXPECT_TRUE(end == n || end % grain == 0);
          for (int64_t i = begin; i < end; ++i) ++visits[i];
        });
        EXPECT_EQ(visits, std::vector<int>(n, 1)) << threads << " threads, grain " << grain;
        for (const int count : ranges_of) EXPECT_LE(count, 1);
      }
    }
  }
}

TEST(ThreadTeamTest, RunsEveryTaskOnceAndOneAtATimeOnAThread) {
  for (const int threads : {1, 2, 5}) {
    ThreadTeam team(threads);
    for (const int64_t n : {0, 1, 3, 100}) {
      std::vector<int> visits(n, 0);
      std::vector<std::atomic<int>> running(threads);
      team.ParallelForTasks(n, [&](int thread, int64_t task) {
        ASSERT_LT(thread, threads);
        EXPECT_EQ(running[thread]++, 0);
        ++visits[task];
        --running[thread];
      });
      EXPECT_EQ(visits, std::vector<int>(n, 1)) << threads << " threads";
    }
  }
}

TEST(ThreadTeamTest, ManyLoopsInARow) {
  ThreadTeam team(4);
  std::vector<int64_t> sums(64, 0);
  for (int loop = 0; loop < 1000; ++loop) {
    team.ParallelFor(64, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sums[i] += i;
    });
  }
  for (int64_t i = 0; i < 64; ++i) EXPECT_EQ(sums[i], 1000 * i);
}

TEST(NumUsableCoresTest, AtLeastOne) { EXPECT_GE(NumUsableCores(), 1); }

}  // namespace
}  // namespace strake
