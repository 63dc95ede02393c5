// Runs grids of CUDA threads on the CPU and reports what a GPU would leave undefined. Kernels do
// not include this header: core/cuda/portable.h gives them CUDA's names for it.
//
// The threads of a block are fibres of the calling thread; blocks run one after the other. The
// emulator reports, with kernel, block, thread and, if known, the line:
//   * an access outside of a GuardedBuffer, or a misaligned vector load or store;
//   * shared memory: an index out of bounds, a read of what no thread of the block wrote, and two
//     accesses (one of them a write) by different threads with neither __syncthreads nor, within a
//     warp, __syncwarp between them;
//   * a __syncthreads that some threads of the block do not reach, or reach in another place;
//   * a warp shuffle, vote or __syncwarp in which a lane of its mask does not take part, or a
//     shuffle that reads a lane outside of the mask;
//   * a grid, block or amount of shared memory above the limits of sm_90.
// It cannot show the order in which a GPU makes global memory visible (fences, races in global
// memory, blocks that communicate), performance, registers and spills, bank conflicts, rounding of
// CUDA's own math functions, reads of uninitialized global memory (GuardedBuffer begins as NaN,
// which usually shows), tensor cores, asynchronous copies, clusters and textures.
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

// While it exists, grids that this thread launches run their blocks, and the threads of each block,
// in an order drawn from `seed`, which changes at barriers and at shared memory accesses. Without
// it the order is ascending.
class ScopedRandomCudaOrder {
 public:
  explicit ScopedRandomCudaOrder(uint64_t seed);
  ~ScopedRandomCudaOrder();
  ScopedRandomCudaOrder(const ScopedRandomCudaOrder&) = delete;
  ScopedRandomCudaOrder& operator=(const ScopedRandomCudaOrder&) = delete;
};

// Calls `thread` once per thread of the grid, before it returns. Returns InvalidArgument for a
// launch that sm_90 would refuse, and Internal for the first fault, which ends the grid.
absl::Status RunCudaGrid(const std::string& kernel, CudaDim3 grid, CudaDim3 block,
                         size_t dynamic_shared_bytes, const std::function<void()>& thread);

// Launches a kernel: calls RunCudaGrid() at once, or hands it to the launcher. Returns an error for
// a launch that sm_90 would refuse.
absl::Status LaunchCudaGrid(CudaStream stream, const std::string& kernel, CudaDim3 grid,
                            CudaDim3 block, size_t dynamic_shared_bytes,
                            std::function<void()> thread);

struct CudaLaunch {
  std::string kernel = {};
  CudaDim3 grid = {}, block = {};
  size_t dynamic_shared_bytes = 0;
};

// Receives the grids that are launched from now on, to run them later. Null: they run at once.
using CudaLauncher = absl::Status (*)(CudaStream stream, const CudaLaunch& launch,
                                      std::function<absl::Status()> run);
void SetCudaLauncher(CudaLauncher launcher);

// The threads of a grid call the rest.

void CudaSyncThreads(CudaPlace place);

// Waits for the lanes of `mask`; returns the `value` of `source_lane`.
uint64_t CudaShuffle(const char* op, uint32_t mask, uint64_t value, int source_lane,
                     CudaPlace place);
// Waits for the lanes of `mask`; returns one bit per lane, set if its `predicate` holds.
uint32_t CudaBallot(const char* op, uint32_t mask, bool predicate, CudaPlace place);

CudaSharedMemory& CudaDynamicShared();

[[noreturn]] void CudaFault(const std::string& message);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUDA_EMULATOR_H_
