// A collective as NCCL calls.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_CALLS_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_CALLS_H_

#include "core/cuda/stream.h"
#include "parallel/comm/collective_call.h"
#include "parallel/comm/nccl/nccl_library.h"

namespace strake {

// Call it between ncclGroupStart() and ncclGroupEnd(). Tensors are on the GPU; the call is not a
// barrier or a split. CHECKs that NCCL can reduce the dtype. Returns the first result that is an
// error, or kSuccess.
NcclResult CallNccl(const NcclLibrary& nccl, const CollectiveCall& call, int rank, NcclComm comm,
                    CudaStream stream);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_CALLS_H_
