// The threads of one rank. Strake's loops and the library's matrix products run on the same ones.
#ifndef STRAKE_CORE_BASE_THREAD_TEAM_H_
#define STRAKE_CORE_BASE_THREAD_TEAM_H_

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"

namespace strake {

// On OpenMP, oneDNN's pool too: a second pool beside a spinning one costs up to a factor of two.
// Under `--define=strake_threads=std` (thread sanitizer, clang) a pool of std::thread.
//
// A team is made and used on one thread, the rank's own; making it sets how many threads OpenMP
// gives to that thread's parallel regions, oneDNN's included.
class ThreadTeam {
 public:
  // At least one thread, the calling one included; no more than OMP_THREAD_LIMIT allows.
  explicit ThreadTeam(int num_threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls body(begin, end) for consecutive ranges that cover [0, n), one range per thread, and
  // returns when all are done. Each range but the last holds a multiple of `grain` indices, and at
  // most n / grain threads (rounded up) take part: ranges depend on n, grain and num_threads alone.
  void ParallelFor(int64_t n, int64_t grain, absl::FunctionRef<void(int64_t, int64_t)> body);

  // As ParallelFor, with the number of the range (below num_threads) for per-thread scratch.
  void ParallelForRanges(int64_t n, int64_t grain,
                         absl::FunctionRef<void(int, int64_t, int64_t)> body);

  // Calls body(thread, task) for each task of [0, n), and returns when all are done. A thread takes
  // the next task when it is done with one: for tasks worth some 10 us and more, as cores may
  // differ in speed. Which thread has which task is not determined; `thread` is below num_threads,
  // and no two tasks of one run at a time.
  void ParallelForTasks(int64_t n, absl::FunctionRef<void(int, int64_t)> body);

 private:
  struct Pool;
  const int num_threads_;
  std::unique_ptr<Pool> pool_;
};

// Processors that this process may run on.
int NumUsableCores();

}  // namespace strake

#endif  // STRAKE_CORE_BASE_THREAD_TEAM_H_
