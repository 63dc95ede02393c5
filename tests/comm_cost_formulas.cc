#include "tests/comm_cost_formulas.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/base/exact_sum.h"
#include "core/memory/parameter_arena.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "core/tensor/sequence_chunks.h"
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
  std::vector<int64_t> windows = {};  // of the attention of its layers
  int64_t is_first = 1, is_last = 1;  // 0 or 1
  // The parts with one before them, in the model's order, and with one behind them.
  int64_t parts_behind = 0, parts_before = 0;
};

StageShare ShareOf(const CommCostOptions& o) {
  const int stages = o.sizes.pp, stage = CoordinatesOf(o.sizes, o.rank).pp;
  const std::vector<int64_t> counts = LayersOfParts(o, stages);
  const int num_parts = static_cast<int>(counts.size());
  StageShare share = {.is_first = stage == 0, .is_last = stage == stages - 1};
  int64_t layer = 0;
  for (int part = 0; part < num_parts; ++part) {
    for (int64_t i = 0; i < counts[part]; ++i, ++layer) {
      if (part % stages == stage) share.windows.push_back(o.model.AttentionOf(layer).window);
    }
  }
  for (int part = stage; part < num_parts; part += stages) {
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
  const int sharers = o.sizes.dp * o.sizes.cp;
  PadBuckets(&arena, o.dtype, sharers, o.gradients);
  arena.AllocateDryRun(o.dtype);
  const std::vector<ShardRange> updated =
      UpdatedRanges(arena, sharers, at.dp * o.sizes.cp + at.cp, o.gradients);
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
  const int64_t micro_batches = o.num_micro_batches, layers = stage.windows.size();
  const int64_t tokens = o.seq_len * o.micro_batch / o.sizes.cp, element_bytes = DTypeSize(o.dtype);
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
  const int64_t tokens =
      o.seq_len * o.micro_batch / o.sizes.cp / (o.sequence_parallel ? o.sizes.tp : 1);
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

// The number of chunks of a rank whose keys a query of another one sees, by definition.
int64_t NumChunksSeen(const SequenceChunks& from, const SequenceChunks& by, int64_t seq_len,
                      int64_t window) {
  int64_t count = 0;
  for (const ShardRange& keys : from.Of(seq_len)) {
    bool seen = false;
    for (const ShardRange& queries : by.Of(seq_len)) {
      for (int64_t i = queries.begin; i < queries.end; ++i) {
        seen = seen || (keys.begin <= i && (window == 0 || keys.end > i - window + 1));
      }
    }
    count += seen;
  }
  return count;
}

void AddRing(const CommCostOptions& o, const StageShare& stage, int64_t elements, AxisCost& cp) {
  const int64_t forward_passes = o.activation_recompute == ActivationRecompute::kFull ? 3 : 2;
  const int64_t element_bytes = DTypeSize(o.dtype);
  const int64_t gradient_bytes = DTypeSize(AccumulationDType(o.dtype));
  const SequenceChunks mine = {CoordinatesOf(o.sizes, o.rank).cp, o.sizes.cp};
  int64_t send_calls = 0, send_bytes = 0, recv_calls = 0, recv_bytes = 0;
  for (const int64_t window : stage.windows) {
    for (int rank = 0; rank < o.sizes.cp; ++rank) {
      if (rank == mine.rank) continue;
      const SequenceChunks other = {rank, o.sizes.cp};
      const int64_t sent = NumChunksSeen(mine, other, o.seq_len, window);
      const int64_t received = NumChunksSeen(other, mine, o.seq_len, window);
      // Gradients go the other way.
      send_calls += forward_passes * (sent > 0) + (received > 0);
      recv_calls += forward_passes * (received > 0) + (sent > 0);
      send_bytes += elements * (forward_passes * sent * element_bytes + received * gradient_bytes);
      recv_bytes += elements * (forward_passes * received * element_bytes + sent * gradient_bytes);
    }
  }
  const int64_t times = o.num_micro_batches;
  cp.Add(CommPhase::kContext, Kind::kSend, times * send_calls, times * send_bytes);
  cp.Add(CommPhase::kContext, Kind::kRecv, times * recv_calls, times * recv_bytes);
}

void AddContext(const CommCostOptions& o, const StageShare& stage, AxisCost& cp) {
  if (o.sizes.cp == 1) return;
  const auto heads =
      AttentionHeadShard(o.model.num_heads, o.model.num_kv_heads, o.sizes.tp, /*rank=*/0);
  const int64_t of_token = 2 * heads->key_value.range.size() * o.model.head_dim;
  if (o.context_comm == ContextComm::kRing) {
    return AddRing(o, stage, o.micro_batch * o.seq_len / (2 * o.sizes.cp) * of_token, cp);
  }
  const int64_t layers = stage.windows.size() * o.num_micro_batches;
  const int64_t gathers = layers * (o.activation_recompute == ActivationRecompute::kFull ? 3 : 2);
  const int64_t elements = o.micro_batch * o.seq_len * of_token;
  cp.Add(CommPhase::kContext, Kind::kReduceScatterSum, layers,
         layers * elements * DTypeSize(AccumulationDType(o.dtype)));
  cp.Add(CommPhase::kContext, Kind::kAllGather, gathers, gathers * elements * DTypeSize(o.dtype));
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
  AxisCost tp("tp", o.sizes.tp, &rows), pp("pp", o.sizes.pp, &rows), cp("cp", o.sizes.cp, &rows);
  AxisCost dp(o.sizes.cp > 1 ? "dp_cp" : "dp", o.sizes.dp * o.sizes.cp, &rows);
  AxisCost link("pp", 2, &rows);
  // With as many heads as ranks, or more, no head is shared.
  AxisCost kv("kv", static_cast<int>(o.sizes.tp / o.model.num_kv_heads), &rows);

  AddLayers(o, stage, tp);
  AddContext(o, stage, cp);
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
