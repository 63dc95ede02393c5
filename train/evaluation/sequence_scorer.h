// SequenceScorer: the losses of many sequences of different lengths, in batches of similar ones.
//
//   ids i_0 .. i_(n-1), first f, 1 <= f < n
//   loss = sum over f <= j < n of -ln p(i_j | i_0 .. i_(j-1))        in nats, summed in f64
//
// A pass takes sequences of falling length, padded on the right to the longest of them: attention
// is causal, so that padding changes no loss before it. Data- and context-parallel ranks take
// passes of whole sequences in turn, and all of them get all losses. Stages of a pipeline
// (models/model_parts.h) work on different passes at a time, and get all losses too. Which
// sequences share a pass changes a loss by rounding alone.
#ifndef STRAKE_TRAIN_EVALUATION_SEQUENCE_SCORER_H_
#define STRAKE_TRAIN_EVALUATION_SEQUENCE_SCORER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/cuda/cuda_runtime.h"
#include "core/device/context.h"
#include "core/memory/activation_arena.h"
#include "models/model_parts.h"
#include "models/transformer.h"
#include "parallel/mesh/mesh.h"

namespace strake {

struct ScoredSequence {
  int64_t num_ids = 0;
  int64_t first = 1;  // ids [first, num_ids) are predicted, each from all that stand before it

  int64_t num_inputs() const { return num_ids - 1; }
  int64_t num_predicted() const { return num_ids - first; }
};

struct SequenceScorerOptions {
  // Inputs of a pass and rank, padding included; a longer sequence is a pass alone.
  int64_t pass_tokens = 2048;
  // Whether to stop; every rank calls it before each turn. Where it returns true, the call returns
  // Cancelled.
  std::function<absl::StatusOr<bool>()> stop = {};
  // Told of each turn's end, on every rank: inputs done, and in all.
  std::function<void(int64_t done, int64_t all)> on_progress = {};
};

// The shape of a pass: sequences, and inputs of each.
struct PassShape {
  int64_t batch = 0, seq_len = 0;
  bool operator==(const PassShape&) const = default;
};

class SequenceScorer {
 public:
  // Uses the context's threads, ops and GPU, and its arena where that has room, else an arena of
  // its own. All arguments must outlive the scorer. Every rank of the mesh makes one and calls it
  // in the same order.
  SequenceScorer(const Context& ctx, const ModelParts& model, const Mesh& mesh,
                 SequenceScorerOptions options);

  // Returns each sequence's loss; load(i, ids) writes the ids of sequence i, some of them on some
  // ranks. CHECKs that sequences are no longer than those that the model was made for. Errors:
  // load's, the same on every rank; a token outside the vocabulary; Internal, naming the sequence,
  // for a loss that is not finite; ResourceExhausted.
  absl::StatusOr<std::vector<double>> SumLosses(
      absl::Span<const ScoredSequence> sequences,
      absl::FunctionRef<absl::Status(int64_t i, int32_t* ids)> load);

  // Bytes of activations of a pass. Computes nothing; the model may have been made for a dry run.
  static size_t ActivationBytes(const Context& ctx, const ModelParts& model,
                                const PassShape& shape);

 private:
  struct Pass {
    PassShape shape;
    std::vector<int64_t> sequences;
  };
  std::vector<Pass> MakePasses(absl::Span<const ScoredSequence> sequences) const;
  int64_t PaddedLength(int64_t num_inputs) const;
  absl::Status Reserve(const std::vector<Pass>& passes);
  absl::Status Run(const Pass& pass, absl::Span<const ScoredSequence> sequences,
                   absl::FunctionRef<absl::Status(int64_t i, int32_t* ids)> load,
                   absl::Span<double> losses);
  // Runs the pass of tokens_ and targets_. Returns their losses, or nothing where the model's last
  // part is elsewhere.
  absl::StatusOr<std::vector<double>> TokenLosses(const PassShape& shape);
  absl::StatusOr<Tensor> Upload(const Context& ctx, std::vector<int32_t>& ids) const;

  const Context* const base_;
  const ModelParts model_;
  const Mesh* const mesh_;
  const SequenceScorerOptions options_;
  std::optional<ActivationArena> own_arena_;
  PinnedMemory host_losses_;  // of those on a GPU
  std::vector<int32_t> tokens_, targets_;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_EVALUATION_SEQUENCE_SCORER_H_
