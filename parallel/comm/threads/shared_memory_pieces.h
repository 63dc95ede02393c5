// Executes a collective between ranks that share memory, directly from tensor to tensor.
//
// On the CPU the work is cut into pieces [0, n). Each is done once, in any order, on any thread. A
// piece is a range of the call's `count` elements, reduced or copied for all ranks at once; in an
// all-to-all it is what one rank sends to another. On a GPU the whole collective is enqueued at
// once. Sums are in rank order, whichever rank computes them.
#ifndef STRAKE_PARALLEL_COMM_THREADS_SHARED_MEMORY_PIECES_H_
#define STRAKE_PARALLEL_COMM_THREADS_SHARED_MEMORY_PIECES_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "core/cuda/stream.h"
#include "parallel/comm/collective_call.h"

namespace strake {

// The calls of all ranks, or of a sender and its receiver, in that order. Below, all have a value,
// and they match each other.
using JoinedCalls = std::vector<std::optional<CollectiveCall>>;

int64_t NumPieces(const JoinedCalls& calls);

// Does one piece. CHECKs that the collective moves data, and that the data is on the CPU.
void DoPiece(const JoinedCalls& calls, int64_t piece);

// Enqueues the whole collective, whose tensors are on one GPU. CHECKs that it moves data. Returns
// an error where the device rejects a launch or a copy; a part may then be enqueued.
absl::Status Enqueue(const JoinedCalls& calls, CudaStream stream);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_THREADS_SHARED_MEMORY_PIECES_H_
