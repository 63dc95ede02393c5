// CommCost: the collectives of a training step on one rank, by formula.
//
//   T tensor-parallel and D data-parallel ranks; M micro-batches per step and rank, of N tokens;
//   L layers, hidden size C, KV key/value heads; E elements of the rank's parameters, gaps
//   included, in B buckets of gradients; K chunks of a micro-batch's logits (models/head_loss.h); P
//   of those that the rank updates have partial gradients: Pr of replicated parameters, Pk of
//   replicated key/value heads. Elements are of the parameters' dtype, of gradients where marked g,
//   f64 where marked d.
//
//   phase              axis  collective              calls          elements per call
//   embedding          tp    sum                     M              N C
//   forward            tp    sum                     2 L M          N C
//   backward           tp    sum                     2 L M          N C
//   head               tp    sum                     M              N C
//   each of the above  tp    SP: all-gather          as the sum     N C
//   again, backward    tp    SP: all-gather          2 L M          N C, with recomputation
//   loss               tp    all-reduce max          M K            N g in all, per micro-batch
//                      tp    all-reduce              M K            2 N g in all, per micro-batch
//   gradients          dp    zero 0: all-reduce      B              E g in all
//                            zero 1: reduce-scatter  B              E g in all
//                            zero 2: reduce-scatter  B M            E g in all, per micro-batch
//   partial_gradients  tp    all-reduce              1 if any       Pr g (SP; and Pk g if KV = 1)
//                      kv    all-reduce              1 if any       Pk g, T/KV ranks (1 < KV < T)
//   sharded_optimizer  dp    zero 1, 2: all-gather   1              E
//   norm               tp    all-reduce              1              1 d
//                      dp    zero 1, 2: all-reduce   1              1 d
//   control            tp    all-reduce              1              1 d: stop
//                      dp    all-reduce              1              2 d: stop, loss
//
// "sum" is an all-reduce, or with sequence parallelism (SP) a reduce-scatter, whose all-gather is
// in the other pass of the same layer. A block has four sums: after the row-parallel layers of its
// two halves forwards, before their column-parallel layers backwards; the head has the latter
// alone, the embedding the former. Recomputation (models/activation_recompute.h) gathers what the
// norms give once more, in rows of the backward pass. A group of one rank has no collectives.
// Validation and checks of Communicator's check mode are not part of it.
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

// In the order of the table; rows without calls are left out, so that one rank has none.
// InvalidArgument where the model cannot be cut over T ranks, or a step moves 2^62 bytes. CHECKs
// that sizes are positive, the rank lies in the mesh, and with sequence parallelism T divides N.
absl::StatusOr<std::vector<CommCostRow>> CommCost(const CommCostOptions& options);

}  // namespace strake

#endif  // STRAKE_TRAIN_PLAN_COMM_COST_H_
