#include "core/base/thread_team.h"

#include <immintrin.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/control_group.h"
#include "core/base/signal_block.h"
#include "core/base/thread_ranges.h"
#include "glog/logging.h"

namespace strake {
namespace {

// How long a thread that waits spins before it sleeps: longer than what usually lies between two
// loops of a step, and far shorter than a time slice.
constexpr std::chrono::microseconds kSpinTime(50);

// A number of which threads wait until it changes.
class alignas(64) Awaited {
 public:
  std::atomic<int>& value() { return value_; }

  void WaitWhileEqual(int old) {
    if (SpinWhileEqual(old)) return;
    ++num_sleeping_;
    // Returns at once if the number has changed, which Wake() may not have seen anybody wait for.
    while (value_ == old) Futex(FUTEX_WAIT_PRIVATE, old);
    --num_sleeping_;
  }

  // Called after a change.
  void Wake(int num_threads) {
    if (num_sleeping_ > 0) Futex(FUTEX_WAKE_PRIVATE, num_threads);
  }

 private:
  // Returns whether the number changed meanwhile.
  bool SpinWhileEqual(int old) const {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + kSpinTime;
    do {
      for (int i = 0; i < 16; ++i) {
        if (value_ != old) return true;
        _mm_pause();
      }
    } while (Clock::now() < end);
    return false;
  }

  void Futex(int operation, int argument) {
    syscall(SYS_futex, &value_, operation, argument, nullptr, nullptr, 0);
  }

  std::atomic<int> value_ = 0;
  std::atomic<int> num_sleeping_ = 0;
};

// Blocks of a loop over `chunks` grains. Many make it quick to let another thread take over; but
// each costs some 50 ns, and a grain may be worth no more than a microsecond.
int64_t NumBlocks(int64_t chunks, int num_threads) {
  constexpr int64_t kChunksPerBlock = 4, kMaxBlocksPerThread = 64;
  const int64_t per_thread = chunks / (kChunksPerBlock * num_threads);
  return std::min(chunks, num_threads * std::clamp<int64_t>(per_thread, 1, kMaxBlocksPerThread));
}

}  // namespace

class ThreadTeam::Workers {
 public:
  // The caller of Run() is thread 0.
  explicit Workers(int num_threads) : shares_(num_threads) {
    const SignalBlock signals_elsewhere;
    try {
      for (int i = 1; i < num_threads; ++i) threads_.emplace_back([this, i] { Work(i); });
    } catch (const std::system_error& error) {
      // Whoever is there takes all blocks.
      LOG(WARNING) << "[thread_team] the system gives " << threads_.size() + 1 << " of "
                   << num_threads << " threads: " << error.what();
    }
  }

  ~Workers() {
    stop_ = true;
    ++loop_.value();
    loop_.Wake(INT_MAX);
    for (std::thread& thread : threads_) thread.join();
  }

  // Calls body(thread, block) for each block of [0, n), n > 1.
  void Run(int64_t n, absl::FunctionRef<void(int, int64_t)> body) {
    CHECK_LE(n, INT_MAX) << "[thread_team] blocks";
    const ThreadRanges ranges(n, 1, static_cast<int>(shares_.size()));
    body_ = &body;
    unfinished_.value() = static_cast<int>(n);
    for (int i = 0; i < ranges.count; ++i) {
      shares_[i].end = ranges.End(i);
      // A thread that takes a block, even one that still looks for blocks of the loop before, sees
      // all that was written up to here.
      shares_[i].left.store(static_cast<int>(ranges.End(i) - ranges.Begin(i)),
                            std::memory_order_release);
    }
    ++loop_.value();
    loop_.Wake(ranges.count - 1);
    TakeBlocks(0);
    for (int left = unfinished_.value(); left != 0; left = unfinished_.value()) {
      unfinished_.WaitWhileEqual(left);
    }
  }

 private:
  // Consecutive blocks that one thread does first.
  struct alignas(64) Share {
    std::atomic<int> left = 0;  // those that nobody took yet; negative after a vain attempt
    int64_t end = 0;            // number of the last block, plus 1
  };

  void Work(int thread) {
    for (int seen = 0; !stop_;) {
      loop_.WaitWhileEqual(seen);
      seen = loop_.value();
      TakeBlocks(thread);
    }
  }

  void TakeBlocks(int thread) {
    int done = 0;
    for (size_t i = 0; i < shares_.size(); ++i) {
      Share& share = shares_[(thread + i) % shares_.size()];
      while (share.left.load(std::memory_order_relaxed) > 0) {
        const int left = share.left.fetch_sub(1, std::memory_order_acquire);
        if (left <= 0) break;
        (*body_)(thread, share.end - left);
        ++done;
      }
    }
    if (done > 0 && unfinished_.value().fetch_sub(done) == done) unfinished_.Wake(1);
  }

  std::vector<Share> shares_;
  const absl::FunctionRef<void(int, int64_t)>* body_ = nullptr;
  Awaited unfinished_;  // blocks
  Awaited loop_;        // counts loops
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

ThreadTeam::ThreadTeam(int num_threads) : num_threads_(num_threads) {
  CHECK_GE(num_threads, 1) << "[thread_team] num_threads";
  if (num_threads > 1) workers_ = std::make_unique<Workers>(num_threads);
}

ThreadTeam::~ThreadTeam() = default;

void ThreadTeam::ParallelForTasks(int64_t n, absl::FunctionRef<void(int, int64_t)> body) {
  if (n > 1 && workers_ != nullptr) return workers_->Run(n, body);
  for (int64_t task = 0; task < n; ++task) body(0, task);
}

void ThreadTeam::ParallelForRanges(int64_t n, int64_t grain,
                                   absl::FunctionRef<void(int, int64_t, int64_t)> body) {
  if (n <= 0) return;
  const int64_t chunks = (n + grain - 1) / grain;
  if (num_threads_ == 1 || chunks == 1) return body(0, 0, n);
  const ThreadRanges ranges(n, grain, static_cast<int>(NumBlocks(chunks, num_threads_)));
  workers_->Run(ranges.count, [&](int thread, int64_t block) {
    body(thread, ranges.Begin(static_cast<int>(block)), ranges.End(static_cast<int>(block)));
  });
}

void ThreadTeam::ParallelFor(int64_t n, int64_t grain,
                             absl::FunctionRef<void(int64_t, int64_t)> body) {
  ParallelForRanges(n, grain, [&](int, int64_t begin, int64_t end) { body(begin, end); });
}

int NumUsableCores() {
  cpu_set_t set;
  const bool known = sched_getaffinity(0, sizeof(set), &set) == 0;
  const int cores = known ? CPU_COUNT(&set) : static_cast<int>(std::thread::hardware_concurrency());
  // Threads beyond the quota only make the others wait.
  const std::optional<double> quota = ReadControlGroupLimits().num_cores;
  return std::max(1, quota.has_value() ? static_cast<int>(std::min<double>(cores, *quota)) : cores);
}

}  // namespace strake
