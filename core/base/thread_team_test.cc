#include "core/base/thread_team.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <latch>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace strake {
namespace {

// More threads than cores: some are kept from a core while others run.
constexpr int kManyThreads = 16;

using Ranges = std::vector<std::pair<int64_t, int64_t>>;

// The ranges of a loop in the order of their indices. Expects that a thread does one at a time.
Ranges RangesOf(ThreadTeam& team, int64_t n, int64_t grain) {
  std::vector<std::atomic<int>> running(team.num_threads());
  std::mutex mutex;
  Ranges ranges;
  team.ParallelForRanges(n, grain, [&](int thread, int64_t begin, int64_t end) {
    ASSERT_LT(thread, team.num_threads());
    EXPECT_EQ(running[thread]++, 0);
    {
      const std::lock_guard<std::mutex> lock(mutex);
      ranges.emplace_back(begin, end);
    }
    --running[thread];
  });
  std::sort(ranges.begin(), ranges.end());
  return ranges;
}

TEST(ThreadTeamTest, ItsThreadsTakeNoSignals) {
  ThreadTeam team(2);
  std::latch both(2);  // so that each thread has a task
  team.ParallelForTasks(2, [&](int thread, int64_t) {
    both.arrive_and_wait();
    sigset_t blocked;
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, nullptr, &blocked), 0);
    for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGALRM}) {
      EXPECT_EQ(sigismember(&blocked, number), thread) << number;
    }
    EXPECT_EQ(sigismember(&blocked, SIGBUS), 0);
  });
}

TEST(ThreadTeamTest, CoversEveryIndexOnceInWholeGrains) {
  for (const int threads : {1, 2, 3, kManyThreads}) {
    ThreadTeam team(threads);
    for (const int64_t n : {0, 1, 2, 7, 64, 100, 5000}) {
      for (const int64_t grain : {1, 3, 64, 1000}) {
        SCOPED_TRACE(::testing::Message() << threads << " threads, " << n << " by " << grain);
        int64_t covered = 0;
        for (const auto& [begin, end] : RangesOf(team, n, grain)) {
          EXPECT_EQ(begin, covered);
          EXPECT_LT(begin, end);
          EXPECT_EQ(begin % grain, 0);
          EXPECT_TRUE(end == n || end % grain == 0);
          covered = end;
        }
        EXPECT_EQ(covered, n);
      }
    }
  }
}

TEST(ThreadTeamTest, RangesDependOnSizesAlone) {
  for (const int threads : {2, 3, kManyThreads}) {
    ThreadTeam team(threads), other(threads);
    for (const int64_t n : {7, 100, 5000}) {
      const Ranges ranges = RangesOf(team, n, 3);
      for (int repeat = 0; repeat < 20; ++repeat) EXPECT_EQ(RangesOf(team, n, 3), ranges);
      EXPECT_EQ(RangesOf(other, n, 3), ranges);
    }
  }
}

TEST(ThreadTeamTest, CutsLongLoopsIntoMoreRangesThanThreads) {
  ThreadTeam team(2);
  EXPECT_EQ(RangesOf(team, 2, 1).size(), 2);
  EXPECT_GE(RangesOf(team, 64, 1).size(), 8);
  EXPECT_GE(RangesOf(team, 1000000, 1).size(), 64);
  EXPECT_LE(RangesOf(team, 1000000, 1).size(), 1000);  // each costs time
}

TEST(ThreadTeamTest, RunsEveryTaskOnceAndOneAtATimeOnAThread) {
  for (const int threads : {1, 2, kManyThreads}) {
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

// Hangs if a block has to wait for the thread that is held up.
TEST(ThreadTeamTest, OthersDoTheBlocksOfAThreadThatIsHeldUp) {
  constexpr int64_t kTasks = 100;
  ThreadTeam team(2);
  for (int64_t held_up = 0; held_up < kTasks; ++held_up) {
    std::atomic<int64_t> num_done = 0;
    team.ParallelForTasks(kTasks, [&](int, int64_t task) {
      while (task == held_up && num_done < kTasks - 1) std::this_thread::yield();
      ++num_done;
    });
    EXPECT_EQ(num_done, kTasks);
  }
}

TEST(ThreadTeamTest, OthersDoTheRangesOfAThreadThatIsHeldUp) {
  constexpr int64_t kSize = 1000;
  for (const int threads : {2, 3}) {
    ThreadTeam team(threads);
    for (const int64_t held_up : {int64_t{0}, kSize / 2, kSize - 1}) {
      std::atomic<int64_t> num_done = 0;
      team.ParallelFor(kSize, 1, [&](int64_t begin, int64_t end) {
        const bool holds = begin <= held_up && held_up < end;
        while (holds && num_done < kSize - (end - begin)) std::this_thread::yield();
        num_done += end - begin;
      });
      EXPECT_EQ(num_done, kSize);
    }
  }
}

TEST(ThreadTeamTest, ManyLoopsInARow) {
  for (const int threads : {2, kManyThreads}) {
    ThreadTeam team(threads);
    std::vector<int64_t> sums(64, 0);
    for (int loop = 0; loop < 1000; ++loop) {
      team.ParallelFor(64, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) sums[i] += i;
      });
    }
    for (int64_t i = 0; i < 64; ++i) EXPECT_EQ(sums[i], 1000 * i);
  }
}

// The threads fall asleep between two loops, and the caller waits for tasks that take long.
TEST(ThreadTeamTest, SleepsAndWakesUp) {
  constexpr std::chrono::milliseconds kLonger(2);
  ThreadTeam team(4);
  std::vector<int> visits(16, 0);
  for (int loop = 0; loop < 50; ++loop) {
    team.ParallelForTasks(16, [&](int thread, int64_t task) {
      if (thread != 0 && task % 8 == 7) std::this_thread::sleep_for(kLonger);
      ++visits[task];
    });
    if (loop % 2 == 0) std::this_thread::sleep_for(kLonger);
  }
  EXPECT_EQ(visits, std::vector<int>(16, 50));
}

// Ranks are threads, each with a team.
TEST(ThreadTeamTest, ManyTeamsAtOnce) {
  constexpr int kRanks = 5;
  std::vector<std::thread> ranks;
  std::vector<int64_t> totals(kRanks, 0);
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&total = totals[rank]] {
      ThreadTeam team(3);
      for (int loop = 0; loop < 200; ++loop) {
        std::atomic<int64_t> sum = 0;
        team.ParallelFor(50, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
        total += sum;
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(totals, std::vector<int64_t>(kRanks, 200 * 50));
}

TEST(ThreadTeamTest, ABodyMayHaveATeamOfItsOwn) {
  ThreadTeam team(2);
  std::atomic<int> visits = 0;
  team.ParallelForTasks(10, [&](int, int64_t) {
    ThreadTeam inner(2);
    inner.ParallelForTasks(10, [&](int, int64_t) { ++visits; });
  });
  EXPECT_EQ(visits, 100);
}

TEST(ThreadTeamTest, EndsWhereverItsThreadsAre) {
  for (int repeat = 0; repeat < 50; ++repeat) {
    auto team = std::make_unique<ThreadTeam>(4);
    std::atomic<int> visits = 0;
    for (int loop = 0; loop < repeat % 3; ++loop) {
      team->ParallelForTasks(4, [&](int, int64_t) { ++visits; });
    }
    // Long enough for some of them to fall asleep.
    std::this_thread::sleep_for(std::chrono::microseconds(10 * repeat));
    team.reset();
    EXPECT_EQ(visits, repeat % 3 * 4);
  }
}

TEST(NumUsableCoresTest, AtLeastOne) { EXPECT_GE(NumUsableCores(), 1); }

}  // namespace
}  // namespace strake
