// The scheduler of the CUDA emulator: one grid, its blocks, and what their threads wait for.
#ifndef STRAKE_CORE_TESTING_CUDA_GRID_H_
#define STRAKE_CORE_TESTING_CUDA_GRID_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/testing/cuda_emulator.h"
#include "core/testing/cuda_shared_memory.h"
#include "core/testing/fiber.h"

namespace strake::testing {

inline constexpr size_t kMaxCudaSharedBytes = 227 << 10;  // per block, on sm_90

// Takes the place of a shuffle's source lane.
inline constexpr int kCudaBallot = -1;

// Ends a CUDA thread. It is an exception so that the objects on the thread's stack are destroyed.
struct ThreadFault {
  std::string message;
};

int64_t Count(const CudaDim3& shape);

// "(1, 2, 3)"
std::string ToString(const CudaDim3& v);

// One launch. Runs on the thread that created it.
class CudaGrid {
 public:
  CudaGrid(const std::string& kernel, CudaDim3 grid, CudaDim3 block, size_t dynamic_shared_bytes,
           const std::function<void()>& body, std::mt19937_64* random);

  // Returns the message of the first fault, or "".
  std::string Run();

  // Returns the grid that the calling thread runs, or null.
  static CudaGrid* Running();

  // The grid's threads call the rest.
  void SyncThreads(CudaPlace place);
  uint64_t WarpExchange(const char* op, uint32_t mask, uint64_t value, int source_lane,
                        CudaPlace place);
  void Preempt();
  [[noreturn]] void MemoryFault(const void* address);
  void UseStaticShared(size_t bytes, CudaPlace place);

  const CudaTime& now() const { return threads_[current_].time; }
  CudaSharedMemory& dynamic_shared() { return dynamic_shared_; }

 private:
  // Lanes of a warp, one bit per lane.
  struct Warp {
    uint32_t waiting = 0;  // lanes in a warp operation
    uint32_t exited = 0;
  };

  enum class State { kReady, kAtBarrier, kInWarp, kExited };

  struct Thread {
    State state = State::kReady;
    CudaDim3 index;
    CudaTime time;
    // The operation that it waits in.
    const char* op = nullptr;
    CudaPlace place{};
    uint32_t mask = 0;
    uint64_t value = 0;  // its own value, then the result
    int source_lane = 0;

    bool WaitsWith(const Thread& other) const {
      return mask == other.mask && (op == other.op || std::strcmp(op, other.op) == 0);
    }
  };

  static void RunThreads();
  void RunThread();
  void RunBlock(int64_t block);
  void MakeReady(int thread);
  int TakeReady();
  void SwitchTo(int thread);
  void Leave();
  void Yield();
  bool AllWaitWith(const Thread& me) const;
  void ReleaseWarp(int first, uint32_t mask);
  static std::string Call(const Thread& thread);
  std::string Waiting() const;

  static std::vector<std::unique_ptr<Fiber>>& Fibers();
  static CudaSharedMemory& DynamicShared();

  const std::string& kernel_;
  const std::function<void()>& body_;
  const size_t dynamic_shared_bytes_;
  CudaSharedMemory& dynamic_shared_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<int> ready_;
  std::vector<std::unique_ptr<Fiber>>& fibers_;
  Fiber host_;
  int current_ = 0;
  int num_exited_ = 0;
  int num_at_barrier_ = 0;
  size_t static_shared_bytes_ = 0;
  std::string fault_;
  const void* fault_address_ = nullptr;
  bool memory_fault_ = false;
  std::mt19937_64* const random_;  // null: the order is ascending
};

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUDA_GRID_H_
