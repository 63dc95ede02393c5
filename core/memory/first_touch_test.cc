#include "core/memory/first_touch.h"

#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "core/tensor/tensor_buffer.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

constexpr size_t kBytes = size_t{40} << 20;

HostMemory Memory() { return HostMemory::Allocate(kBytes).value(); }
absl::Span<char> SpanOf(const HostMemory& memory) {
  return {static_cast<char*>(memory.data()), memory.num_bytes()};
}

size_t NumPresentPages(const HostMemory& memory) {
  const size_t page = sysconf(_SC_PAGESIZE);
  std::vector<unsigned char> pages((kBytes + page - 1) / page);
  EXPECT_EQ(mincore(memory.data(), kBytes, pages.data()), 0);
  size_t num_present = 0;
  for (const unsigned char state : pages) num_present += state & 1;
  return num_present;
}

void WaitFor(const FirstTouch& touch) {
  while (!touch.done()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

// Returns true if the system gives pages ahead.
bool Populates() {
  const HostMemory memory = Memory();
  return madvise(memory.data(), kBytes, /*MADV_POPULATE_WRITE*/ 23) == 0;
}

TEST(FirstTouchTest, GetsEveryPage) {
  if (!Populates()) GTEST_SKIP() << "this system gives no pages ahead";
  for (const int num_threads : {1, 2, 5}) {
    const HostMemory first = Memory(), second = Memory();
    EXPECT_EQ(NumPresentPages(first), 0);
    const FirstTouch touch({SpanOf(first), {}, SpanOf(second)}, num_threads);
    EXPECT_EQ(touch.total_bytes(), 2 * kBytes);
    WaitFor(touch);
    EXPECT_EQ(touch.done_bytes(), 2 * kBytes);
    const size_t all = kBytes / sysconf(_SC_PAGESIZE);
    EXPECT_EQ(NumPresentPages(first), all);
    EXPECT_EQ(NumPresentPages(second), all);
  }
}

TEST(FirstTouchTest, ChangesNoByteThatOthersWriteMeanwhile) {
  const HostMemory memory = Memory();
  const absl::Span<char> bytes = SpanOf(memory);
  // A range may begin and end within pages.
  const FirstTouch touch({bytes.subspan(1000, kBytes - 3000)}, 2);
  for (size_t i = 0; i < kBytes; i += 509) bytes[i] = static_cast<char>(i % 127 + 1);
  WaitFor(touch);
  for (size_t i = 0; i < kBytes; ++i) {
    ASSERT_EQ(bytes[i], i % 509 == 0 ? static_cast<char>(i % 127 + 1) : 0) << i;
  }
}

TEST(FirstTouchTest, MayEndBeforeItIsDone) {
  const HostMemory memory = Memory();
  { const FirstTouch touch({SpanOf(memory)}, 2); }
  const FirstTouch nothing({}, 2);
  EXPECT_TRUE(nothing.done());
}

}  // namespace
}  // namespace strake
