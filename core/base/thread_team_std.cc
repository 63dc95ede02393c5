#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/thread_ranges.h"
#include "core/base/thread_team.h"
#include "glog/logging.h"

namespace strake {

// Workers sleep until a loop's number changes, run their range, and decrement the count of running
// workers.
struct ThreadTeam::Pool {
  std::mutex mutex;
  std::condition_variable start, done;
  uint64_t loop = 0;
  bool stop = false;
  int running = 0;
  const ThreadRanges* ranges = nullptr;
  const absl::FunctionRef<void(int, int64_t, int64_t)>* body = nullptr;
  std::vector<std::thread> workers;

  void Work(int index) {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex);
    while (true) {
      start.wait(lock, [&] { return stop || loop != seen; });
      if (stop) return;
      seen = loop;
      if (index < ranges->count) {
        lock.unlock();
        (*body)(index, ranges->Begin(index), ranges->End(index));
        lock.lock();
      }
      if (--running == 0) done.notify_one();
    }
  }
};

ThreadTeam::ThreadTeam(int num_threads)
    : num_threads_(num_threads), pool_(std::make_unique<Pool>()) {
  CHECK_GE(num_threads, 1) << "[thread_team] num_threads";
  for (int i = 1; i < num_threads; ++i) {
    pool_->workers.emplace_back([pool = pool_.get(), i] { pool->Work(i); });
  }
}

ThreadTeam::~ThreadTeam() {
  {
    std::lock_guard<std::mutex> lock(pool_->mutex);
    pool_->stop = true;
  }
  pool_->start.notify_all();
  for (std::thread& worker : pool_->workers) worker.join();
}

void ThreadTeam::ParallelForRanges(int64_t n, int64_t grain,
                                   absl::FunctionRef<void(int, int64_t, int64_t)> body) {
  const ThreadRanges ranges(n, grain, num_threads_);
  if (ranges.count == 0) return;
  if (ranges.count == 1) return body(0, 0, n);
  {
    std::lock_guard<std::mutex> lock(pool_->mutex);
    pool_->ranges = &ranges;
    pool_->body = &body;
    pool_->running = num_threads_ - 1;
    ++pool_->loop;
  }
  pool_->start.notify_all();
  body(0, ranges.Begin(0), ranges.End(0));
  std::unique_lock<std::mutex> lock(pool_->mutex);
  pool_->done.wait(lock, [&] { return pool_->running == 0; });
}

}  // namespace strake
