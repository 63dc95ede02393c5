#include "tests/comm_cost_formulas.h"

#include <string>
#include <utility>

#include "core/base/exact_sum.h"
#include "core/memory/parameter_arena.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "models/transformer.h"
#include "parallel/data/gradient_buckets.h"
#include "parallel/tensor/partial_gradients.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake::testing {
namespace {

using Kind = CollectiveKind;

constexpr int64_t kF64Bytes = sizeof(double);

// The rows of one axis.
class AxisCost {
 public:
  AxisCost(std::string axis, int num_ranks, std::vector<CommCostRow>* rows)
      : axis_(std::move(axis)), num_ranks_(num_ranks), rows_(rows) {}

  // Adds calls; `bytes` is their sum.
  void Add(CommPhase phase, Kind kind, int64_t calls, int64_t bytes) {
    if (num_ranks_ > 1 && bytes > 0) {
      rows_->push_back({phase, axis_, num_ranks_, kind, calls, bytes});
    }
  }

 private:
  const std::string axis_;
  const int num_ranks_;
  std::vector<CommCostRow>* const rows_;
};

// The sizes that determine a rank's collectives of gradients and weights.
struct ParameterCounts {
  int64_t elements = 0;
  int64_t grad_bytes = 0;  // of one element
  int64_t buckets = 0;
  PartialElements partial;  // in the part that the rank updates
};

ParameterCounts CountParameters(const CommCostOptions& o) {
  const MeshVector at = CoordinatesOf(o.sizes, o.rank);
  ParameterArena weights, adapters;
  // The sequence length changes no parameter.
  const Transformer model(o.model, /*max_seq_len=*/1, &weights,
                          TensorParallel::Planned(at.tp, o.sizes.tp, o.sequence_parallel),
                          LogitsChunk(), ActivationRecompute::kNone, &adapters);
  ParameterArena& arena = o.model.lora.enabled() ? adapters : weights;
  PadBuckets(&arena, o.dtype, o.sizes.dp, o.gradients);
  arena.AllocateDryRun(o.dtype);
  return {.elements = arena.num_elements(),
          .grad_bytes = static_cast<int64_t>(DTypeSize(arena.grad_dtype())),
          .buckets = static_cast<int64_t>(GradientBuckets(arena, o.gradients.bucket_bytes).size()),
          .partial = PartialGradients::Count(arena, o.sizes.tp,
                                             UpdatedRanges(arena, o.sizes.dp, at.dp, o.gradients))};
}

// Counts norms of whole projections.
int64_t NumQkNormSums(const CommCostOptions& o, CommPhase phase) {
  const bool in_layers = phase == CommPhase::kForward || phase == CommPhase::kBackward;
  if (o.model.qk_norm != QkNorm::kWhole || !in_layers) return 0;
  const bool again =
      phase == CommPhase::kBackward && o.activation_recompute == ActivationRecompute::kFull;
  return (again ? 2 : 1) * o.model.num_layers * o.num_micro_batches;
}

void AddLayers(const CommCostOptions& o, AxisCost& tp) {
  const int64_t micro_batches = o.num_micro_batches, layers = o.model.num_layers;
  const int64_t tokens = o.seq_len * o.micro_batch, element_bytes = DTypeSize(o.dtype);
  for (const auto& [phase, sums] : {std::pair{CommPhase::kEmbedding, int64_t{1}},
                                    {CommPhase::kForward, 2 * layers},
                                    {CommPhase::kBackward, 2 * layers},
                                    {CommPhase::kHead, int64_t{1}}}) {
    const int64_t calls = sums * micro_batches;
    const int64_t bytes = calls * tokens * o.model.hidden_size * element_bytes;
    const int64_t norm_calls = NumQkNormSums(o, phase);
    const int64_t norm_bytes = norm_calls * 2 * tokens * DTypeSize(AccumulationDType(o.dtype));
    if (!o.sequence_parallel) {
      tp.Add(phase, Kind::kAllReduceSum, calls + norm_calls, bytes + norm_bytes);
      continue;
    }
    tp.Add(phase, Kind::kAllReduceSum, norm_calls, norm_bytes);
    tp.Add(phase, Kind::kReduceScatterSum, calls, bytes);
    // A frozen embedding has no backward pass.
    if (phase == CommPhase::kEmbedding && o.model.lora.enabled()) continue;
    // Where a norm's output is recomputed, it is gathered again.
    const bool again =
        phase == CommPhase::kBackward && o.activation_recompute != ActivationRecompute::kNone;
    tp.Add(phase, Kind::kAllGather, again ? 2 * calls : calls, again ? 2 * bytes : bytes);
  }
  const int64_t columns = VocabShard(o.model.vocab_size, o.sizes.tp, /*rank=*/0).held.size();
  const int64_t chunks = micro_batches * o.logits_chunk.NumChunks(tokens, columns, o.dtype);
  tp.Add(CommPhase::kLoss, Kind::kAllReduceMax, chunks,
         micro_batches * tokens * DTypeSize(SoftmaxMaxDType(o.dtype)));
  tp.Add(CommPhase::kLoss, Kind::kAllReduceSum, chunks,
         micro_batches * 2 * tokens * DTypeSize(AccumulationDType(o.dtype)));
}

void AddGradients(const CommCostOptions& o, const ParameterCounts& counts, AxisCost& dp) {
  const int zero = o.gradients.zero;
  // With zero 2 a rank has memory only for its own part of the sum over micro-batches.
  const int64_t times = zero == 2 ? o.num_micro_batches : 1;
  const int64_t element_bytes =
      o.gradients.reduce_in_bf16 ? DTypeSize(DType::kBf16) : counts.grad_bytes;
  dp.Add(CommPhase::kGradients, zero == 0 ? Kind::kAllReduceSum : Kind::kReduceScatterSum,
         times * counts.buckets, times * counts.elements * element_bytes);
}

}  // namespace

std::vector<CommCostRow> CommCostByFormula(const CommCostOptions& o) {
  const ParameterCounts counts = CountParameters(o);
  const bool sharded = o.gradients.zero > 0;
  std::vector<CommCostRow> rows;
  AxisCost tp("tp", o.sizes.tp, &rows), dp("dp", o.sizes.dp, &rows);
  // With as many heads as ranks, or more, no head is shared.
  AxisCost kv("kv", static_cast<int>(o.sizes.tp / o.model.num_kv_heads), &rows);

  AddLayers(o, tp);
  AddGradients(o, counts, dp);
  tp.Add(CommPhase::kPartialGradients, Kind::kAllReduceSum, 1,
         counts.partial.all_ranks * counts.grad_bytes);
  kv.Add(CommPhase::kPartialGradients, Kind::kAllReduceSum, 1,
         counts.partial.kv_holders * counts.grad_bytes);
  if (sharded) {
    dp.Add(CommPhase::kShardedOptimizer, Kind::kAllGather, counts.buckets,
           counts.elements * DTypeSize(o.dtype));
  }
  constexpr int64_t kNormBytes = kExactSumLimbs * 8;
  tp.Add(CommPhase::kNorm, Kind::kAllReduceSum, 1, kNormBytes);
  if (sharded) dp.Add(CommPhase::kNorm, Kind::kAllReduceSum, 1, kNormBytes);
  tp.Add(CommPhase::kControl, Kind::kAllReduceSum, 1, kF64Bytes);
  dp.Add(CommPhase::kControl, Kind::kAllReduceSum, 1, 2 * kF64Bytes);
  return rows;
}

}  // namespace strake::testing
