// A collective as calls of NCCL.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_CALLS_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_CALLS_H_

#include "core/cuda/stream.h"
#include "parallel/comm/collective_call.h"
#include "parallel/comm/nccl/nccl_library.h"

namespace strake {

// Within ncclGroupStart() and ncclGroupEnd(). Tensors on the GPU; not a barrier or a split. CHECKs
// that NCCL can reduce the dtype. The first result that is an error, or kSuccess.
NcclResult CallNccl(const NcclLibrary& nccl, const CollectiveCall& call, int rank, NcclComm comm,
                    CudaStream stream);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_CALLS_H_
