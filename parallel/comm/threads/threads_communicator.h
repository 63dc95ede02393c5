// A group whose ranks are threads of one process: the reference implementation, and the default.
//
// Ranks read and write each other's buffers in place. A collective becomes runnable when the last
// rank has started it; the ranks that wait for it then do its work in small pieces, so that it
// completes although others still compute. Who does a piece does not show: every element is reduced
// in rank order. Kinds, counts and dtypes are always compared between ranks (they bound what is
// read), whatever options.check says.
//
// On a GPU, that all ranks share: the last rank to start a collective enqueues the work of all of
// them on a stream of the group, behind an event of each rank's bound stream. A rank's Wait() lets
// its own host wait until that is enqueued, and its stream until that is done; no kernel waits for
// another rank.
#ifndef STRAKE_PARALLEL_COMM_THREADS_THREADS_COMMUNICATOR_H_
#define STRAKE_PARALLEL_COMM_THREADS_THREADS_COMMUNICATOR_H_

#include <memory>
#include <vector>

#include "parallel/comm/communicator.h"

namespace strake {

// A new group's ends, by rank, one for each rank's thread. A rank that destroys its end has left:
// what the others then expect from it fails at once. So does the group when a result is dropped
// before it was waited for. At most cuda::kMaxReducedRanks ranks where tensors are on a GPU.
std::vector<std::unique_ptr<Communicator>> CreateThreadsCommunicators(
    int size, const CommunicatorOptions& options = {});

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_THREADS_THREADS_COMMUNICATOR_H_
