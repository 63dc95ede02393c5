// How many blocks of a kernel an H200 holds at a time, and in how many waves a grid runs.
//
// The rules are those of the CUDA toolkit's cuda_occupancy.h for compute capability 9.0.
#ifndef STRAKE_TOOLS_KERNELS_OCCUPANCY_H_
#define STRAKE_TOOLS_KERNELS_OCCUPANCY_H_

#include <cstdint>

namespace strake {

struct BlockResources {
  int64_t threads = 0;
  int64_t registers = 0;     // of a thread
  int64_t shared_bytes = 0;  // static and dynamic
};

struct Occupancy {
  int64_t blocks = 0;      // on a multiprocessor; 0: the kernel cannot run
  const char* limit = "";  // what there is too little of for one more: "registers"
  double warps = 0;        // part of a multiprocessor's warps that they are
};

Occupancy H200Occupancy(const BlockResources& block);

struct Waves {
  double count = 0;  // 1.25: a full wave and a quarter of one
  double last = 0;   // how full the last one is, in (0, 1]
  // The part of the kernel's time that the last wave leaves idle, if all blocks take equally long.
  double idle() const;
};

// `blocks` is at least 1.
Waves H200Waves(int64_t num_blocks, const Occupancy& occupancy);

}  // namespace strake

#endif  // STRAKE_TOOLS_KERNELS_OCCUPANCY_H_
