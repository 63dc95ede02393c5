// A group whose ranks are processes, each with a GPU of its own, that NCCL connects.
//
//   STRAKE_ASSIGN_OR_RETURN(auto rendezvous, NcclRendezvousFromEnvironment());  // or ...Over(mpi)
//   STRAKE_ASSIGN_OR_RETURN(auto cuda, CudaContext::Create(rendezvous.local_rank));
//   STRAKE_ASSIGN_OR_RETURN(auto world, CreateNcclWorld(rendezvous, options));
//   world->BindCudaStream(cuda->stream());
//
// Tensors on the GPU: collectives of a group run on a stream of its own, in the order of the calls.
// f32, bf16, f64, i32 and i64 are reduced, c128 summed; other dtypes are only moved. NCCL chooses
// the order of a sum, which is the same for every run on the same machines with the same version
// and the same NCCL_* variables (NCCL_ALGO, NCCL_PROTO, NCCL_NCHANNELS... change it): it is not the
// rank order. In a bf16 sum every partial sum is rounded. Of NaN, a max says nothing. Messages that
// are sent and received together travel together, when one of them is waited for or another call of
// the group is made: ranks put them into the same order among the collectives of a group.
//
// Tensors on the CPU go over TCP, by way of rank 0, and are reduced in rank order: what is small
// (losses, flags, hashes), and moves although GPUs are busy. So do barriers and splits. Wait() then
// waits on the host.
//
// Kinds, counts, dtypes and call sites are compared, over TCP, for tensors on the CPU; for those on
// GPUs with options.check, where a collective is launched only by Wait(), when all ranks have come.
// Without it, calls that do not fit hang until the timeout, or give wrong results.
//
// A rank that fails, aborts, or dies (its TCP connection ends) fails all groups of all processes:
// each aborts what NCCL has under way, so that streams come to an end. One that does not come is
// missed by WaitForStream() and WaitForEvent(), and wherever else the host waits in a group, after
// the timeout. CUDA graphs that hold collectives go before their groups: NCCL waits for that.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_COMMUNICATOR_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_COMMUNICATOR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/nccl/nccl_library.h"
#include "parallel/comm/nccl/nccl_rendezvous.h"

namespace strake {

// The group of all processes; each calls it once, on a thread whose current device is its GPU. All
// have come within options.timeout, or it is an error that names who did not; so is a machine
// without NCCL.
absl::StatusOr<std::unique_ptr<Communicator>> CreateNcclWorld(
    const NcclRendezvous& rendezvous, const CommunicatorOptions& options = {});

// The same with the functions of another library.
absl::StatusOr<std::unique_ptr<Communicator>> CreateNcclWorld(const NcclRendezvous& rendezvous,
                                                              const CommunicatorOptions& options,
                                                              const NcclLibrary& nccl);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_COMMUNICATOR_H_
