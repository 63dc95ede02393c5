// A group whose ranks are processes with one GPU each, connected by NCCL.
//
//   STRAKE_ASSIGN_OR_RETURN(auto rendezvous, NcclRendezvousFromEnvironment());  // or ...Over(mpi)
//   STRAKE_ASSIGN_OR_RETURN(auto cuda, CudaContext::Create(rendezvous.local_rank));
//   STRAKE_ASSIGN_OR_RETURN(auto world, CreateNcclWorld(rendezvous, options));
//   world->BindCudaStream(cuda->stream());
//
// Tensors on the GPU: collectives of a group run on its own stream, in the order of the calls. f32,
// bf16, f64, i32 and i64 are reduced, c128 is only summed; other dtypes are only moved. NCCL
// chooses the order of a sum, which is not the rank order. It is the same in every run on the same
// machines with the same version and the same NCCL_* variables (NCCL_ALGO, NCCL_PROTO,
// NCCL_NCHANNELS... change it). In a bf16 sum every partial sum is rounded. The max of values with
// a NaN is unspecified. Messages that are sent and received together move together, when one of
// them is waited for, at StartMessages(), or when another call of the group is made: ranks must
// issue them in the same order among the collectives of a group.
//
// Tensors on the CPU go over TCP, through rank 0, and are reduced in rank order. They are small
// (losses, flags, hashes) and move even while GPUs are busy. Barriers and splits go the same way.
// Wait() then waits on the host. A split first waits for the group's collectives on the GPU.
//
// Kinds, counts, dtypes and call sites are compared, over TCP, for tensors on the CPU. For tensors
// on GPUs they are compared with options.check alone: Wait() then launches the collective, once all
// ranks have called it; a message starts before, and its Wait() then waits on the host until its
// peer has called it. Without the check, calls that do not match hang until the timeout or give
// wrong results.
//
// A rank that fails, aborts, or dies (its TCP connection ends) fails all groups of all processes:
// each aborts its NCCL work in flight, so that streams complete. A rank that does not arrive is
// detected after the timeout by WaitForStream(), by WaitForEvent(), and wherever else the host
// waits in a group. Destroy CUDA graphs that contain collectives before their groups: NCCL waits
// for that.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_COMMUNICATOR_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_COMMUNICATOR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/nccl/nccl_library.h"
#include "parallel/comm/nccl/nccl_rendezvous.h"

namespace strake {

// Makes the group of all processes. Each calls it once, on a thread whose current device is its
// GPU. Returns an error that names the missing ranks if not all have called it within
// options.timeout, and an error on a machine without NCCL.
absl::StatusOr<std::unique_ptr<Communicator>> CreateNcclWorld(
    const NcclRendezvous& rendezvous, const CommunicatorOptions& options = {});

// The same with the functions of another library, for tests.
absl::StatusOr<std::unique_ptr<Communicator>> CreateNcclWorld(const NcclRendezvous& rendezvous,
                                                              const CommunicatorOptions& options,
                                                              const NcclLibrary& nccl);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_COMMUNICATOR_H_
