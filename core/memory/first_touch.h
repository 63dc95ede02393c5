// FirstTouch: gets the pages of large arrays from the system before a program uses them.
//
// Memory from the system has no pages until its first use, and a page costs much more then than
// later: in a virtual machine, seconds per GiB.
#ifndef STRAKE_CORE_MEMORY_FIRST_TOUCH_H_
#define STRAKE_CORE_MEMORY_FIRST_TOUCH_H_

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

#include "absl/types/span.h"

namespace strake {

class FirstTouch {
 public:
  // Begins, on `num_threads` threads of its own, with the first range; changes no byte, so others
  // may use the ranges meanwhile. They must live as long. Linux before 5.14 gives no pages ahead:
  // there, and where the system has no threads, it ends at once.
  FirstTouch(const std::vector<absl::Span<char>>& ranges, int num_threads);
  // Leaves out what has not begun.
  ~FirstTouch();
  FirstTouch(const FirstTouch&) = delete;
  FirstTouch& operator=(const FirstTouch&) = delete;

  size_t total_bytes() const { return total_bytes_; }
  size_t done_bytes() const { return done_bytes_; }
  bool done() const { return done_bytes_ == total_bytes_; }

 private:
  void Run();

  std::vector<absl::Span<char>> pieces_;
  size_t total_bytes_ = 0;
  std::atomic<size_t> next_piece_ = 0, done_bytes_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace strake

#endif  // STRAKE_CORE_MEMORY_FIRST_TOUCH_H_
