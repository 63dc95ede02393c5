// The emulator's shared memory: bytes that know who wrote and read them. See cuda_emulator.h.
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

// When a thread did something: all that is needed to say whether a barrier stood between two
// accesses.
struct CudaTime {
  uint64_t block = 0;  // counts all blocks ever run; 0: never
  uint32_t thread = 0;
  uint32_t barriers = 0;    // __syncthreads passed by the block
  uint32_t warp_syncs = 0;  // more than that of any __syncwarp partner before it
};

// Its contents belong to one block: for the next one, nothing is written yet.
class CudaSharedMemory {
 public:
  // `place`: of the declaration; a null file for the dynamic shared memory of a launch.
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
  std::vector<unsigned char> bytes_;  // this and the next are never made smaller
  std::vector<Cell> cells_;           // one per kCellBytes
  CudaPlace place_;
  uint64_t block_ = 0;  // the last that used it
};

// Of the calling CUDA thread, in the emulator.
CudaTime CudaNow();
// Lets other threads go first, now and then, in a random order.
void CudaPreempt();
// Counts static shared memory of the running block against the limit.
void CudaUseStaticShared(size_t bytes, CudaPlace place);

std::string ToString(CudaPlace place);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUDA_SHARED_MEMORY_H_
