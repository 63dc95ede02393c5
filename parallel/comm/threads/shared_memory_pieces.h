// The work of a collective between ranks that share memory, straight from tensor to tensor.
//
// On the CPU it is cut into pieces [0, n) that are done once each, in any order, on any threads: a
// piece is elements of the call's `count`, reduced or copied for all ranks at once; in an
// all-to-all it is what one rank has for another. On a GPU all of it is enqueued at once. Sums are
// in rank order, whoever makes them.
#ifndef STRAKE_PARALLEL_COMM_THREADS_SHARED_MEMORY_PIECES_H_
#define STRAKE_PARALLEL_COMM_THREADS_SHARED_MEMORY_PIECES_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "core/cuda/stream.h"
#include "parallel/comm/collective_call.h"

namespace strake {

// Those of all ranks, or of a sender and its receiver, in that order. All have a value below, and
// fit each other.
using JoinedCalls = std::vector<std::optional<CollectiveCall>>;

int64_t NumPieces(const JoinedCalls& calls);

// CHECKs that the collective moves data, which is on the CPU.
void DoPiece(const JoinedCalls& calls, int64_t piece);

// The whole collective, whose tensors are on one GPU. CHECKs that it moves data. Error: what the
// device refuses; a part may be enqueued then.
absl::Status Enqueue(const JoinedCalls& calls, CudaStream stream);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_THREADS_SHARED_MEMORY_PIECES_H_
