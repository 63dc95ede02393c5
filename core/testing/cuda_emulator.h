// Runs grids of CUDA threads on the CPU and reports what a GPU would leave undefined. Kernels do
// not include this: core/cuda/portable.h gives them CUDA's names for it.
//
// The threads of a block are fibres of the calling thread, blocks run one after the other.
// Reported, with kernel, block, thread and, where there is one, the line:
//   * an access outside of a GuardedBuffer, or a misaligned vector load or store;
//   * shared memory: an index out of bounds, a read of what no thread of the block wrote, and two
//     accesses (one of them a write) by different threads with neither __syncthreads nor, within a
//     warp, __syncwarp between them;
//   * a __syncthreads that some threads of the block do not reach, or reach in another place;
//   * a warp shuffle, vote or __syncwarp in which a lane of its mask does not take part, or a
//     shuffle that reads a lane outside of the mask;
//   * a grid, block or amount of shared memory above the limits of sm_90.
// What it cannot show: the order in which a GPU makes global memory visible (fences, races in
// global memory, blocks that communicate), performance, registers and spills, bank conflicts,
// rounding of CUDA's own math functions, reads of global memory that nothing wrote (GuardedBuffer
// begins as NaN, which usually shows), tensor cores, asynchronous copies, clusters, textures.
#ifndef STRAKE_CORE_TESTING_CUDA_EMULATOR_H_
#define STRAKE_CORE_TESTING_CUDA_EMULATOR_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "core/cuda/stream.h"
#include "core/testing/cuda_shared_memory.h"

namespace strake::testing {

struct CudaDim3 {
  constexpr CudaDim3(unsigned x = 1, unsigned y = 1, unsigned z = 1)  // NOLINT: as CUDA's dim3
      : x(x), y(y), z(z) {}
  unsigned x, y, z;
};

struct CudaBuiltins {
  CudaDim3 thread_idx, block_idx, block_dim, grid_dim;
};
extern thread_local constinit CudaBuiltins cuda_builtins;

// While it lives, grids that this thread launches run their blocks, and the threads of each block,
// in an order drawn from `seed`, changed at barriers and at shared memory accesses. Without it, in
// ascending order.
class ScopedRandomCudaOrder {
 public:
  explicit ScopedRandomCudaOrder(uint64_t seed);
  ~ScopedRandomCudaOrder();
  ScopedRandomCudaOrder(const ScopedRandomCudaOrder&) = delete;
  ScopedRandomCudaOrder& operator=(const ScopedRandomCudaOrder&) = delete;
};

// Calls `thread` once per thread of the grid, before it returns. InvalidArgument for a launch that
// sm_90 would refuse, Internal for the first fault, which ends the grid.
absl::Status RunCudaGrid(const std::string& kernel, CudaDim3 grid, CudaDim3 block,
                         size_t dynamic_shared_bytes, const std::function<void()>& thread);

// What a kernel's launch does: RunCudaGrid(), in the call or where the launcher puts it. A launch
// that sm_90 would refuse is an error of the call.
absl::Status LaunchCudaGrid(CudaStream stream, const std::string& kernel, CudaDim3 grid,
                            CudaDim3 block, size_t dynamic_shared_bytes,
                            std::function<void()> thread);

// Takes the grids that are launched from now on, to run them later. Null: they run at once.
using CudaLauncher = absl::Status (*)(CudaStream stream, std::function<absl::Status()> run);
void SetCudaLauncher(CudaLauncher launcher);

// The rest is called by the threads of a grid.

void CudaSyncThreads(CudaPlace place);

// Waits for the lanes of `mask`; returns `value` of `source_lane`.
uint64_t CudaShuffle(const char* op, uint32_t mask, uint64_t value, int source_lane,
                     CudaPlace place);
// Waits for the lanes of `mask`; returns a bit for each whose `predicate` holds.
uint32_t CudaBallot(const char* op, uint32_t mask, bool predicate, CudaPlace place);

CudaSharedMemory& CudaDynamicShared();

[[noreturn]] void CudaFault(const std::string& message);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUDA_EMULATOR_H_
