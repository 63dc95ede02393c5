#include "core/memory/first_touch.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <system_error>

namespace strake {
namespace {

#ifdef MADV_POPULATE_WRITE
constexpr int kPopulateWrite = MADV_POPULATE_WRITE;
#else
constexpr int kPopulateWrite = 23;  // of Linux 5.14
#endif

// Pieces begin at multiples of this address, so that no two of them share a huge page.
constexpr uintptr_t kPieceBytes = uintptr_t{16} << 20;

void Populate(const absl::Span<char>& piece) {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(piece.data());
  const uintptr_t first_page = begin / page * page;
  // A refusal is no error: the first use gets the pages, or fails, as it would otherwise.
  (void)madvise(reinterpret_cast<void*>(first_page), begin - first_page + piece.size(),
                kPopulateWrite);
}

}  // namespace

FirstTouch::FirstTouch(const std::vector<absl::Span<char>>& ranges, int num_threads) {
  for (const absl::Span<char>& range : ranges) {
    total_bytes_ += range.size();
    for (size_t at = 0; at < range.size();) {
      const uintptr_t address = reinterpret_cast<uintptr_t>(range.data()) + at;
      const size_t count = std::min<size_t>(kPieceBytes - address % kPieceBytes, range.size() - at);
      pieces_.push_back(range.subspan(at, count));
      at += count;
    }
  }
  try {
    for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Run(); });
  } catch (const std::system_error&) {
    // The system gives no more threads. Nothing needs the pages ahead.
    if (threads_.empty()) done_bytes_ = total_bytes_;
  }
}

FirstTouch::~FirstTouch() {
  next_piece_ = pieces_.size();
  for (std::thread& thread : threads_) thread.join();
}

void FirstTouch::Run() {
  for (size_t i = next_piece_++; i < pieces_.size(); i = next_piece_++) {
    Populate(pieces_[i]);
    done_bytes_ += pieces_[i].size();
  }
}

}  // namespace strake
