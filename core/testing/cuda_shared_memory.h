// The emulator's shared memory: bytes that record who wrote and read them. See cuda_emulator.h.
#ifndef STRAKE_CORE_TESTING_CUDA_SHARED_MEMORY_H_
#define STRAKE_CORE_TESTING_CUDA_SHARED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace strake::testing {

// A line of a kernel's source.
struct CudaPlace {
  const char* file;
  int line;
};

// The time of a thread's access: all that is needed to tell whether a barrier separates two
// accesses.
struct CudaTime {
  uint64_t block = 0;  // counts all blocks ever run; 0: never
  uint32_t thread = 0;
  uint32_t barriers = 0;    // __syncthreads passed by the block
  uint32_t warp_syncs = 0;  // larger than that of any __syncwarp partner before it
};

// Its contents belong to one block: for the next block, nothing has been written yet.
class CudaSharedMemory {
 public:
  // `place` is that of the declaration; its file is null for a launch's dynamic shared memory.
  CudaSharedMemory(size_t bytes, CudaPlace place);

  void Resize(size_t bytes);

  // Any fault ends the calling thread.
  void Read(ptrdiff_t offset, size_t bytes, void* to);
  void Write(ptrdiff_t offset, size_t bytes, const void* from);

 private:
  struct Cell {
    CudaTime write, first_read, last_read;
  };
  void CheckBounds(const char* access, ptrdiff_t offset, size_t bytes);
  void CheckRead(size_t offset, Cell& cell, const CudaTime& now);
  void CheckWrite(size_t offset, Cell& cell, const CudaTime& now);
  std::string Where(ptrdiff_t offset) const;

  size_t num_bytes_ = 0;
  std::vector<unsigned char> bytes_;  // bytes_ and cells_ never shrink
  std::vector<Cell> cells_;           // one per kCellBytes
  CudaPlace place_;
  uint64_t block_ = 0;  // the last block that used it
};

// The time of the calling CUDA thread, in the emulator.
CudaTime CudaNow();
// Lets other threads run first, now and then, in a random order.
void CudaPreempt();
// Counts the running block's static shared memory against the limit.
void CudaUseStaticShared(size_t bytes, CudaPlace place);

std::string ToString(CudaPlace place);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUDA_SHARED_MEMORY_H_
