// A group whose ranks are threads of one process: the reference implementation, and the default.
//
// Ranks read and write each other's buffers in place. A collective becomes runnable when the last
// rank has started it. The ranks that wait for it then do its work in small pieces, so it completes
// even while other ranks still compute. Results do not depend on which rank does a piece: every
// element is reduced in rank order. Kinds, counts and dtypes are always compared between ranks,
// whatever options.check says, since they bound the memory that is read.
//
// On a GPU, which all ranks share: the last rank to start a collective enqueues the work of all
// ranks on a stream of the group, after an event of each rank's bound stream. A rank's Wait()
// blocks its host until that work is enqueued, and its stream until the work is done; no kernel
// waits for another rank.
#ifndef STRAKE_PARALLEL_COMM_THREADS_THREADS_COMMUNICATOR_H_
#define STRAKE_PARALLEL_COMM_THREADS_THREADS_COMMUNICATOR_H_

#include <memory>
#include <vector>

#include "parallel/comm/communicator.h"

namespace strake {

// Makes the ends of a new group, by rank, one for each rank's thread. A rank that destroys its end
// has left: collectives that still need it fail at once. The group also fails when a result is
// dropped before it was waited for. At most cuda::kMaxReducedRanks ranks where tensors are on a
// GPU.
std::vector<std::unique_ptr<Communicator>> CreateThreadsCommunicators(
    int size, const CommunicatorOptions& options = {});

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_THREADS_THREADS_COMMUNICATOR_H_
