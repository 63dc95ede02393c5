// After the first steps a training step asks the system for no memory: all its memory has been
// planned. What a thread prepares for a product when it takes a block of it for the first time, it
// may do in any step. The test defines malloc() and similar functions, and counts their calls for
// more than a page, from any caller; sanitizers define their own.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "gtest/gtest.h"
#include "models/families/families.h"
#include "models/model_config.h"
#include "parallel/mesh/mesh.h"
#include "tools/benchmarking/benchmark_config.h"
#include "tools/benchmarking/benchmark_steps.h"

namespace {

constexpr size_t kPage = 4096;

std::atomic<bool> counting = false;
std::atomic<int64_t> num_large = 0;

void Count(size_t num_bytes) {
  if (counting && num_bytes > kPage) ++num_large;
}

}  // namespace

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kCanCount = false;
#else
constexpr bool kCanCount = true;

extern "C" {

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t num_bytes) {
  Count(num_bytes);
  return __libc_malloc(num_bytes);
}
void* calloc(size_t count, size_t num_bytes) {
  Count(count * num_bytes);
  return __libc_calloc(count, num_bytes);
}
void* realloc(void* memory, size_t num_bytes) {
  Count(num_bytes);
  return __libc_realloc(memory, num_bytes);
}
void* aligned_alloc(size_t alignment, size_t num_bytes) {
  Count(num_bytes);
  return __libc_memalign(alignment, num_bytes);
}
int posix_memalign(void** memory, size_t alignment, size_t num_bytes) {
  Count(num_bytes);
  *memory = __libc_memalign(alignment, num_bytes);
  return 0;
}
void* mmap(void* address, size_t num_bytes, int protection, int flags, int fd, off_t offset) {
  Count(num_bytes);
  return reinterpret_cast<void*>(
      syscall(SYS_mmap, address, num_bytes, protection, flags, fd, offset));
}

}  // extern "C"
#endif

namespace strake {
namespace {

// f32 alone: oneDNN's products of bf16 weights' gradients allocate as they compute.
TEST(StepAllocationTest, NoneAfterTheFirstSteps) {
  if (!kCanCount) GTEST_SKIP() << "a sanitizer has its own malloc()";
  BenchmarkConfig config;
  config.model = "llama-tiny";
  config.micro_batch = 2;
  config.global_batch = 4;
  config.seq_len = 128;
  config.machine.threads = 2;
  const Mesh mesh = Mesh::SingleRank();
  num_large = 0;
  counting = true;
  const auto steps = BenchmarkSteps::Create(config, *ModelPreset(config.model), mesh);
  ASSERT_TRUE(steps.ok()) << steps.status();
  ASSERT_TRUE((*steps)->Run(1).ok());
  EXPECT_GT(num_large, 0);  // the counting works
  constexpr int kMaxSteps = 200;
  int num_without = 0;
  for (int step = 2; step <= kMaxSteps && num_without < 3; ++step) {
    num_large = 0;
    ASSERT_TRUE((*steps)->Run(step).ok());
    num_without = num_large == 0 ? num_without + 1 : 0;
  }
  counting = false;
  EXPECT_EQ(num_without, 3) << "steps without allocations, one after the other";
}

}  // namespace
}  // namespace strake
