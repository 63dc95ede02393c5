// What NCCL allocates on a GPU for itself.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_MEMORY_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_MEMORY_H_

#include <cstddef>

namespace strake {

// An estimate of the buffers of one communicator of `size` ranks, on each of its GPUs; 0 for one
// rank.
//
//   channels x peers x (LL + LL128 + Simple)
//
// A channel has a buffer of each protocol for each peer that it receives from. Their defaults are
// 512 KiB, 4800 KiB and 4 MiB (src/init.cc and src/include/device.h of NCCL 2.28; NCCL_LL_BUFFSIZE,
// NCCL_LL128_BUFFSIZE and NCCL_BUFFSIZE change them). 24 channels are what NCCL says under
// NCCL_DEBUG=INFO on eight H100 or H200; other machines have fewer. The peers are the previous rank
// of a ring, and the next one of a tree. Not counted: NVLink SHARP, networks, and what its kernels'
// code takes.
size_t NcclBufferBytes(int size);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_MEMORY_H_
