// The threads of one rank. Strake's loops and the library's matrix products share them.
#ifndef STRAKE_CORE_BASE_THREAD_TEAM_H_
#define STRAKE_CORE_BASE_THREAD_TEAM_H_

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"

namespace strake {

// Runs loops in blocks, of which each thread takes the next one when it is free. A thread begins
// with the blocks of its own share, so that it finds in its cache what it had there, and then takes
// blocks of the other shares. So a loop does not wait for a thread that another process keeps from
// its core, but for the block that this thread was in.
//
// Threads that wait spin for some microseconds only and then sleep, which leaves the core to
// others.
//
// The threads that a team creates take no signals of the process (core/base/signal_block.h).
//
// A team is created and used on one thread, the rank's own. Bodies do not start loops of their
// team.
class ThreadTeam {
 public:
  // Uses num_threads >= 1 threads, the calling one included.
  explicit ThreadTeam(int num_threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls body(begin, end) for ranges that together cover [0, n), and returns when all are done.
  // Each range but the last holds a multiple of `grain` indices. Ranges depend on n, grain and
  // num_threads alone. Which thread does a range is not determined.
  void ParallelFor(int64_t n, int64_t grain, absl::FunctionRef<void(int64_t, int64_t)> body);

  // Like ParallelFor, but also passes the number of the thread, below num_threads, for per-thread
  // scratch. A thread does one range at a time.
  void ParallelForRanges(int64_t n, int64_t grain,
                         absl::FunctionRef<void(int, int64_t, int64_t)> body);

  // Calls body(thread, task) for each task of [0, n), and returns when all are done. `thread` is as
  // above. Use it for tasks of some 10 us and more.
  void ParallelForTasks(int64_t n, absl::FunctionRef<void(int, int64_t)> body);

 private:
  class Workers;
  const int num_threads_;
  std::unique_ptr<Workers> workers_;  // null for one thread
};

// The number of processors that this process may use: its affinity and its control groups' quota,
// rounded down.
int NumUsableCores();

}  // namespace strake

#endif  // STRAKE_CORE_BASE_THREAD_TEAM_H_
