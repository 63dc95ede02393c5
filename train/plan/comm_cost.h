// CommCost: the collectives of a training step on one rank, as its engine's dry run records them:
// calls and bytes by phase, axis and collective.
//
// A phase is what a step does meanwhile. Embedding and head are those of the model, with both
// passes; forward and backward are those of its blocks, with what recomputation gathers again in
// the backward pass; norm is that of the gradients; control is what ranks agree upon at a step's
// end. A group of one rank has no collectives. Validation and checks of Communicator's check mode
// are not part of it.
#ifndef STRAKE_TRAIN_PLAN_COMM_COST_H_
#define STRAKE_TRAIN_PLAN_COMM_COST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/dtype.h"
#include "models/activation_recompute.h"
#include "models/head_loss.h"
#include "models/model_config.h"
#include "parallel/comm/collective_call.h"
#include "parallel/data/gradient_reducer.h"
#include "parallel/mesh/mesh.h"

namespace strake {

enum class CommPhase {
  kEmbedding,
  kForward,
  kBackward,
  kHead,
  kLoss,
  kGradients,
  kPartialGradients,
  kShardedOptimizer,
  kNorm,
  kControl,
};

// "embedding", "partial_gradients", ...
const char* CommPhaseName(CommPhase phase);

struct CommCostOptions {
  ModelConfig model;
  MeshVector sizes = {1, 1, 1, 1};  // pp and cp 1
  int rank = 0;                     // of the mesh: its part of partial gradients is its own
  bool sequence_parallel = false;
  GradientReducerOptions gradients;
  int64_t seq_len = 0;
  int64_t micro_batch = 0;        // sequences per pass and data-parallel rank
  int64_t num_micro_batches = 1;  // per step and data-parallel rank
  DType dtype = DType::kF32;      // of parameters and activations
  LogitsChunk logits_chunk = {};
  ActivationRecompute activation_recompute = ActivationRecompute::kNone;
};

// What a link between neighbours in a ring does.
struct CommLink {
  double bytes_per_second = 0;  // sent by a rank, while it receives as many
  double latency_seconds = 0;   // of one message
};

struct CommCostRow {
  CommPhase phase;
  std::string axis;  // "dp", "tp" or "kv": what the communicator is called
  int num_ranks;     // of that communicator, at least 2
  CollectiveKind collective;
  int64_t calls = 0;  // both as CollectiveStats counts them
  int64_t bytes = 0;

  // What the rank sends if each call is a ring: (n - 1) / n of the payload for a reduce-scatter or
  // an all-gather, twice that for an all-reduce, which is one after the other; n ranks.
  double RingBytes() const;

  // RingBytes() at the link's bandwidth, and n - 1 messages' latency per call and round of the
  // ring, as if nothing else were done meanwhile.
  double Seconds(const CommLink& link) const;

  bool operator==(const CommCostRow&) const = default;
};

// In the order of phases; rows without calls are left out, so that one rank has none.
// InvalidArgument where the model cannot be cut over the tensor-parallel ranks, or the ops of a
// step move 2^62 bytes. CHECKs that sizes are positive, the rank lies in the mesh, and with
// sequence parallelism the tensor-parallel ranks divide a micro-batch's tokens.
absl::StatusOr<std::vector<CommCostRow>> CommCost(const CommCostOptions& options);

}  // namespace strake

#endif  // STRAKE_TRAIN_PLAN_COMM_COST_H_
