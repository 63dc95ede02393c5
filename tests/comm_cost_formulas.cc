#include "tests/comm_cost_formulas.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/base/exact_sum.h"
#include "core/memory/parameter_arena.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "parallel/data/gradient_buckets.h"
#include "parallel/mesh/mesh.h"
#include "parallel/tensor/partial_gradients.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/tensor_parallel.h"
#include "train/engine/stage_models.h"

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

// The parts of the model in a rank's stage.
struct StageShare {
  int64_t layers = 0;
  int64_t is_first = 1, is_last = 1;  // 0 or 1
  // The parts with one before them, in the model's order, and with one behind them.
  int64_t parts_behind = 0, parts_before = 0;
};

StageShare ShareOf(const CommCostOptions& o) {
  const int stages = o.sizes.pp, stage = CoordinatesOf(o.sizes, o.rank).pp;
  if (stages == 1) return {.layers = o.model.num_layers};
  const std::vector<int64_t> counts = LayersOfParts(o, stages);
  const int num_parts = static_cast<int>(counts.size());
  StageShare share = {.is_first = stage == 0, .is_last = stage == stages - 1};
  for (int part = stage; part < num_parts; part += stages) {
    share.layers += counts[part];
    share.parts_behind += part > 0;
    share.parts_before += part + 1 < num_parts;
  }
  return share;
}

// The sizes that determine a rank's collectives of gradients and weights.
struct ParameterCounts {
  int64_t elements = 0;
  int64_t grad_bytes = 0;  // of one element
  int64_t buckets = 0;
  PartialElements partial;                    // in the part that the rank updates
  int64_t tied_elements = 0, tied_parts = 0;  // of a table on two stages, likewise
};

ParameterCounts CountParameters(const CommCostOptions& o) {
  const MeshVector at = CoordinatesOf(o.sizes, o.rank);
  ParameterArena weights, adapters;
  const auto models = MakeStageModels(
      o, o.sizes.pp, at.pp, TensorParallel::Planned(at.tp, o.sizes.tp, o.sequence_parallel),
      &weights, &adapters);
  ParameterArena& arena = o.model.lora.enabled() ? adapters : weights;
  PadBuckets(&arena, o.dtype, o.sizes.dp, o.gradients);
  arena.AllocateDryRun(o.dtype);
  const std::vector<ShardRange> updated = UpdatedRanges(arena, o.sizes.dp, at.dp, o.gradients);
  ParameterCounts counts = {
      .elements = arena.num_elements(),
      .grad_bytes = static_cast<int64_t>(DTypeSize(arena.grad_dtype())),
      .buckets = static_cast<int64_t>(GradientBuckets(arena, o.gradients.bucket_bytes).size()),
      .partial = PartialGradients::Count(arena, o.sizes.tp, updated)};
  for (const ParameterRecord& record : arena.records()) {
    if (!record.own_bucket) continue;
    for (const ShardRange& range : updated) {
      const int64_t elements =
          std::min(range.end, record.end()) - std::max(range.begin, record.offset);
      if (elements <= 0) continue;
      counts.tied_elements += elements;
      ++counts.tied_parts;
    }
  }
  return counts;
}

// Counts norms of whole projections.
int64_t NumQkNormSums(const CommCostOptions& o, int64_t layers, CommPhase phase) {
  const bool in_layers = phase == CommPhase::kForward || phase == CommPhase::kBackward;
  if (o.model.qk_norm != QkNorm::kWhole || !in_layers) return 0;
  const bool again =
      phase == CommPhase::kBackward && o.activation_recompute == ActivationRecompute::kFull;
  return (again ? 2 : 1) * layers * o.num_micro_batches;
}

void AddLayers(const CommCostOptions& o, const StageShare& stage, AxisCost& tp) {
  const int64_t micro_batches = o.num_micro_batches, layers = stage.layers;
  const int64_t tokens = o.seq_len * o.micro_batch, element_bytes = DTypeSize(o.dtype);
  for (const auto& [phase, sums] : {std::pair{CommPhase::kEmbedding, stage.is_first},
                                    {CommPhase::kForward, 2 * layers},
                                    {CommPhase::kBackward, 2 * layers},
                                    {CommPhase::kHead, stage.is_last}}) {
    const int64_t calls = sums * micro_batches;
    const int64_t bytes = calls * tokens * o.model.hidden_size * element_bytes;
    const int64_t norm_calls = NumQkNormSums(o, layers, phase);
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
  const int64_t losses = stage.is_last * micro_batches;
  const int64_t chunks = losses * o.logits_chunk.NumChunks(tokens, columns, o.dtype);
  tp.Add(CommPhase::kLoss, Kind::kAllReduceMax, chunks,
         losses * tokens * DTypeSize(SoftmaxMaxDType(o.dtype)));
  tp.Add(CommPhase::kLoss, Kind::kAllReduceSum, chunks,
         losses * 2 * tokens * DTypeSize(AccumulationDType(o.dtype)));
}

void AddMessages(const CommCostOptions& o, const StageShare& stage, const ParameterCounts& counts,
                 AxisCost& link, AxisCost& pp) {
  const int64_t tokens = o.seq_len * o.micro_batch / (o.sequence_parallel ? o.sizes.tp : 1);
  const int64_t bytes = tokens * o.model.hidden_size * DTypeSize(o.dtype);
  // Gradients cross each boundary as often as activations.
  const int64_t messages = o.num_micro_batches * (stage.parts_behind + stage.parts_before);
  const int64_t tied_bytes = counts.tied_elements * counts.grad_bytes;
  for (const Kind kind : {Kind::kSend, Kind::kRecv}) {
    link.Add(CommPhase::kPipeline, kind, messages, messages * bytes);
  }
  for (const Kind kind : {Kind::kSend, Kind::kRecv}) {
    pp.Add(CommPhase::kTiedTable, kind, counts.tied_parts, tied_bytes);
  }
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
  const StageShare stage = ShareOf(o);
  const bool sharded = o.gradients.zero > 0;
  std::vector<CommCostRow> rows;
  AxisCost tp("tp", o.sizes.tp, &rows), pp("pp", o.sizes.pp, &rows), dp("dp", o.sizes.dp, &rows);
  AxisCost link("pp", 2, &rows);
  // With as many heads as ranks, or more, no head is shared.
  AxisCost kv("kv", static_cast<int>(o.sizes.tp / o.model.num_kv_heads), &rows);

  AddLayers(o, stage, tp);
  AddMessages(o, stage, counts, link, pp);
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
  pp.Add(CommPhase::kNorm, Kind::kAllReduceSum, 1, kNormBytes);
  if (sharded) dp.Add(CommPhase::kNorm, Kind::kAllReduceSum, 1, kNormBytes);
  tp.Add(CommPhase::kControl, Kind::kAllReduceSum, 1, kF64Bytes);
  pp.Add(CommPhase::kControl, Kind::kAllReduceSum, 1, 2 * kF64Bytes);
  dp.Add(CommPhase::kControl, Kind::kAllReduceSum, 1, 2 * kF64Bytes);
  return rows;
}

}  // namespace strake::testing
