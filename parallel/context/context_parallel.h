// ContextParallel: a rank's place among the ranks that share each sequence.
//
// Each holds two chunks of every sequence (core/tensor/sequence_chunks.h). Outside attention they
// are tokens like others.
#ifndef STRAKE_PARALLEL_CONTEXT_CONTEXT_PARALLEL_H_
#define STRAKE_PARALLEL_CONTEXT_CONTEXT_PARALLEL_H_

#include <cstdint>

#include "core/tensor/sequence_chunks.h"
#include "parallel/comm/communicator.h"

namespace strake {

// How keys and values reach the ranks whose queries see them.
enum class ContextComm : uint8_t {
  kRing,       // chunk by chunk, while those that have come are attended to
  kAllGather,  // all at once, before attention
};

// "ring", "all_gather".
const char* ContextCommName(ContextComm comm);

// Cheap to copy; refers to the communicator.
class ContextParallel {
 public:
  // One rank.
  ContextParallel() = default;
  // The ranks of `communicator`, which must outlive this.
  explicit ContextParallel(Communicator& communicator, ContextComm comm = ContextComm::kRing);

  // Rank `rank` of `size` for dry runs alone, without a communicator.
  static ContextParallel Planned(int rank, int size);

  int rank() const { return chunks_.rank; }
  int size() const { return chunks_.num_ranks; }
  ContextComm comm() const { return comm_; }
  const SequenceChunks& chunks() const { return chunks_; }
  // The communicator. CHECKs that there is one.
  Communicator& communicator() const;

 private:
  Communicator* communicator_ = nullptr;
  SequenceChunks chunks_;
  ContextComm comm_ = ContextComm::kRing;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_CONTEXT_CONTEXT_PARALLEL_H_
