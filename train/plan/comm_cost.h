// CommCost: the collectives of a training step on one rank, as its engine's dry run records them:
// calls and bytes by phase, axis and collective.
//
// A phase is a part of a step. Embedding and head are those of the model, both passes; forward and
// backward are those of its blocks, backward with the gathers of recomputation; context is what
// attention moves between the ranks that share sequences, in both passes; pipeline is the messages
// between its stages, activations and their gradients, and tied table the exchange of that table's
// gradients between the first and the last; norm is that of the gradients; control is the ranks'
// agreement at a step's end. A group of one rank has no collectives. Validation, the losses of
// single sequences and the comparisons of Communicator's check mode are not included.
#ifndef STRAKE_TRAIN_PLAN_COMM_COST_H_
#define STRAKE_TRAIN_PLAN_COMM_COST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "parallel/comm/collective_call.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine_options.h"

namespace strake {

enum class CommPhase {
  kEmbedding,
  kForward,
  kBackward,
  kHead,
  kLoss,
  kContext,
  kPipeline,
  kTiedTable,
  kGradients,
  kPartialGradients,
  kShardedOptimizer,
  kNorm,
  kControl,
};

// "embedding", "partial_gradients", ...
const char* CommPhaseName(CommPhase phase);

// A rank's engine, and its step.
struct CommCostOptions : EngineOptions {
  MeshVector sizes = {1, 1, 1, 1};
  int rank = 0;                   // of the mesh: its part of partial gradients is its own
  int64_t num_micro_batches = 1;  // per step and data-parallel rank, also of a pipeline
};

// A link between neighbours in a ring.
struct CommLink {
  double bytes_per_second = 0;  // sent by a rank, while it receives as much
  double latency_seconds = 0;   // of one message
};

struct CommCostRow {
  CommPhase phase;
  std::string axis;  // "tp", "kv", "cp", "pp", "dp", "dp_cp": of the communicator
  int num_ranks;     // of that communicator, at least 2
  CollectiveKind collective;
  int64_t calls = 0;  // both as counted by CollectiveStats
  int64_t bytes = 0;

  // Bytes that the rank sends if each call is a ring over n ranks: (n - 1) / n of the payload for a
  // reduce-scatter or an all-gather; twice that for an all-reduce, which is one after the other. A
  // message to another rank is its payload; one from another rank is counted there.
  double RingBytes() const;

  // RingBytes() at the link's bandwidth, plus the latency of n - 1 messages per call and round of
  // the ring, or of one for a message that is sent, without any overlap.
  double Seconds(const CommLink& link) const;

  bool operator==(const CommCostRow&) const = default;
};

// Returns rows in the order of phases. Rows without calls are omitted, so that one rank has none.
// InvalidArgument where the model cannot be sharded over the tensor-parallel ranks or cut into the
// stages (CheckPipeline()), or the ops of a step move 2^62 bytes. CHECKs that sizes are positive,
// the rank lies in the mesh, and with sequence parallelism the tensor-parallel ranks divide a
// micro-batch's tokens.
absl::StatusOr<std::vector<CommCostRow>> CommCost(const CommCostOptions& options);

}  // namespace strake

#endif  // STRAKE_TRAIN_PLAN_COMM_COST_H_
