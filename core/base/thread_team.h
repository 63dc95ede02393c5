// The threads of one rank. Strake's loops and the library's matrix products share them.
#ifndef STRAKE_CORE_BASE_THREAD_TEAM_H_
#define STRAKE_CORE_BASE_THREAD_TEAM_H_

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"

namespace strake {

// With OpenMP, the team also serves oneDNN: a second pool beside a spinning one costs up to a
// factor of two. With `--define=strake_threads=std` (thread sanitizer, clang), the team is a pool
// of std::thread.
//
// A team is created and used on one thread, the rank's own. Creating it sets how many threads
// OpenMP gives to that thread's parallel regions, oneDNN's included.
class ThreadTeam {
 public:
  // Uses at least one thread, the calling one included, and no more than OMP_THREAD_LIMIT allows.
  explicit ThreadTeam(int num_threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls body(begin, end) for consecutive ranges that cover [0, n), one range per thread, and
  // returns when all are done. Each range but the last holds a multiple of `grain` indices, and at
  // most n / grain threads (rounded up) take part. Ranges depend on n, grain and num_threads alone.
  void ParallelFor(int64_t n, int64_t grain, absl::FunctionRef<void(int64_t, int64_t)> body);

  // Like ParallelFor, but also passes the range's number (below num_threads), for per-thread
  // scratch.
  void ParallelForRanges(int64_t n, int64_t grain,
                         absl::FunctionRef<void(int, int64_t, int64_t)> body);

  // Calls body(thread, task) for each task of [0, n), and returns when all are done. A thread that
  // is done with a task takes the next one, since cores may differ in speed; use it for tasks of
  // some 10 us and more. The assignment of tasks to threads is not determined. `thread` is below
  // num_threads, and no two tasks of the same thread run at the same time.
  void ParallelForTasks(int64_t n, absl::FunctionRef<void(int, int64_t)> body);

 private:
  struct Pool;
  const int num_threads_;
  std::unique_ptr<Pool> pool_;
};

// The number of processors that this process may use: its affinity and its control groups' quota,
// rounded down.
int NumUsableCores();

}  // namespace strake

#endif  // STRAKE_CORE_BASE_THREAD_TEAM_H_
