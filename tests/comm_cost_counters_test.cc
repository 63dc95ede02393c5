// Compares comm_cost's record of a step with its closed formulas and with the communicators' counts
// in real training steps: equal to the call and to the byte, on every rank, row by row and stage by
// stage.
#include <array>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/family.h"
#include "models/initialize.h"
#include "parallel/comm/collective_stats.h"
#include "parallel/mesh/run_on_threads.h"
#include "tests/comm_cost_formulas.h"
#include "tests/layout_model.h"
#include "train/engine/engine.h"
#include "train/plan/comm_cost.h"

namespace strake {
namespace {

using Phase = CommPhase;

// Axis and collective, with calls and bytes; only those that were called.
using Counts = std::map<std::pair<std::string, std::string>, std::pair<int64_t, int64_t>>;

// The stages of a step, and the phases that belong to them.
enum Stage { kAccumulate, kSum, kUpdate, kAgree, kNumStages };
using StageCounts = std::array<Counts, kNumStages>;

Stage StageOf(Phase phase) {
  switch (phase) {
    case Phase::kTiedTable:
    case Phase::kPartialGradients:
      return kSum;
    case Phase::kNorm:
      return kUpdate;
    case Phase::kControl:
      return kAgree;
    default:
      return kAccumulate;
  }
}

StageCounts Predicted(const std::vector<CommCostRow>& rows) {
  StageCounts stages;
  for (const CommCostRow& row : rows) {
    auto& [calls, bytes] = stages[StageOf(row.phase)][{row.axis, CollectiveName(row.collective)}];
    calls += row.calls;
    bytes += row.bytes;
  }
  return stages;
}

// The counts of all groups, since they were made.
Counts Counted(const Engine& engine) {
  Counts counts;
  for (const Communicator* group : engine.communicators()) {
    for (int k = 0; k < kNumCollectiveKinds; ++k) {
      const auto kind = static_cast<CollectiveKind>(k);
      const CollectiveStats::Entry& entry = group->stats()[kind];
      if (entry.calls == 0) continue;
      auto& [calls, bytes] = counts[{group->stats_axis(), CollectiveName(kind)}];
      calls += entry.calls;
      bytes += entry.bytes;
    }
  }
  return counts;
}

Counts Difference(Counts after, const Counts& before) {
  for (const auto& [key, entry] : before) {
    auto& [calls, bytes] = after[key];
    calls -= entry.first;
    bytes -= entry.second;
    if (calls == 0) after.erase(key);
  }
  return after;
}

// Counts a step that follows another, whose first pass gathers the weights of that.
absl::StatusOr<StageCounts> CountStep(const CommCostOptions& o, const Mesh& mesh) {
  EngineOptions options = o;
  options.op_set = o.dtype == DType::kF32 ? OpSet::kAuto : OpSet::kReference;
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, Engine::Create(options, mesh));
  for (ParameterArena* arena : {engine->base(), &engine->parameters()}) {
    if (arena == nullptr) continue;
    STRAKE_RETURN_IF_ERROR(InitializeParameters(/*seed=*/1, engine->team(), arena));
  }
  const testing::TestTensor tokens(DType::kI32, {o.seq_len * o.micro_batch / o.sizes.cp});
  testing::FillTokens(tokens, /*seed=*/mesh.coordinates().dp, o.model.vocab_size);
  Counts before;
  const auto count = [&] {
    const Counts after = Counted(*engine);
    return Difference(after, std::exchange(before, after));
  };

  StageCounts stages;
  for (const int64_t step : {1, 2}) {
    count();
    for (int64_t m = 1; m <= o.num_micro_batches; ++m) {
      STRAKE_RETURN_IF_ERROR(
          engine->AccumulateGradients(tokens, tokens, 1e-2, m == o.num_micro_batches));
    }
    stages[kAccumulate] = count();
    STRAKE_RETURN_IF_ERROR(engine->SumGradients());
    stages[kSum] = count();
    STRAKE_RETURN_IF_ERROR(engine->Update({.lr = 1e-3, .step = step}, /*clip_norm=*/1).status());
    stages[kUpdate] = count();
    STRAKE_RETURN_IF_ERROR(engine->Agree(/*stop=*/false).status());
    stages[kAgree] = count();
  }
  return stages;
}

std::string Name(const CommCostOptions& o) {
  return absl::StrCat(o.model.family->model_type, ", ", o.model.num_kv_heads,
                      " key/value heads, vocabulary ", o.model.vocab_size,
                      o.model.tie_word_embeddings ? ", tied, " : ", untied, ", o.sizes.ToString(),
                      ", sequence parallelism ", o.sequence_parallel, ", zero ", o.gradients.zero,
                      ", micro-batches ", o.num_micro_batches, ", buckets of ",
                      o.gradients.bucket_bytes, " bytes, ", DTypeName(o.dtype),
                      o.gradients.reduce_in_bf16 ? ", reduced in bf16" : "", ", adapters of rank ",
                      o.model.lora.rank, ", recomputed ", static_cast<int>(o.activation_recompute),
                      ", ", PipelineKindName(o.pipeline.kind), " of ", o.pipeline.chunks,
                      " chunks, ", ContextCommName(o.context_comm));
}

std::vector<std::string> Texts(const std::vector<CommCostRow>& rows) {
  std::vector<std::string> texts;
  for (const CommCostRow& row : rows) {
    texts.push_back(absl::StrCat(CommPhaseName(row.phase), " ", row.axis, " ", row.num_ranks, " ",
                                 CollectiveName(row.collective), ": ", row.calls, " calls, ",
                                 row.bytes, " bytes"));
  }
  return texts;
}

// Phase, axis and collective of a row.
using RowKey = std::tuple<Phase, std::string, CollectiveKind>;

// Adds the rows to `seen`.
void ExpectEqualToCounters(CommCostOptions options, std::set<RowKey>* seen) {
  SCOPED_TRACE(Name(options));
  std::mutex mutex;
  const absl::Status status =
      RunOnThreads(options.sizes, {}, [&](const Mesh& mesh) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(const StageCounts counted, CountStep(options, mesh));
        CommCostOptions mine = options;
        mine.rank = mesh.rank();
        STRAKE_ASSIGN_OR_RETURN(const std::vector<CommCostRow> rows, CommCost(mine));
        const std::lock_guard<std::mutex> lock(mutex);
        EXPECT_EQ(Texts(rows), Texts(testing::CommCostByFormula(mine))) << "rank " << mesh.rank();
        EXPECT_EQ(Predicted(rows), counted) << "rank " << mesh.rank();
        for (const CommCostRow& row : rows) {
          EXPECT_GT(row.calls, 0);
          seen->insert({row.phase, row.axis, row.collective});
        }
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
}

ModelConfig Model(const char* name, int64_t num_kv_heads, int64_t vocab_size, bool tied) {
  ModelConfig c = testing::FindLayoutModel(name).features;
  c.vocab_size = vocab_size;
  c.max_positions = 24;
  c.hidden_size = 24;
  c.num_layers = 2;
  c.num_heads = 24;
  c.num_kv_heads = num_kv_heads;
  c.head_dim = 2;
  c.intermediate_size = 48;
  c.tie_word_embeddings = tied;
  return c;
}

// Models that `tp` ranks can shard; vocabularies of 50 and 47 are padded over some of them.
std::vector<ModelConfig> Models(int tp) {
  std::vector<ModelConfig> models = {
      Model("gpt2", 24, 50, /*tied=*/true), Model("gpt2", 24, 48, /*tied=*/false),
      Model("llama", 1, 47, /*tied=*/true), Model("olmo3", 1, 48, /*tied=*/true)};
  // As many heads as ranks, or fewer for four and eight ranks.
  models.push_back(Model("llama", tp >= 4 ? 2 : tp, 50, /*tied=*/false));
  return models;
}

// Every schedule and its chunks, under each stage of ZeRO.
void TestPipelines(int tp, int pp, int dp, std::set<RowKey>* seen) {
  int n = 0;
  for (ModelConfig model : Models(tp)) {
    model.num_layers = 2 * pp;
    if (std::vector<int>& kinds = model.layer_attention_kinds; !kinds.empty()) {
      for (int64_t i = 2; i < model.num_layers; ++i) kinds.push_back(kinds[i - 2]);
    }
    for (const PipelineKind kind : kPipelineKinds) {
      const int zero = n % 3;
      const int64_t num_micro_batches = n++ % 2 == 0 ? pp : 2 * pp - 1;
      if (n % 7 == 0) model.lora = {.rank = 3, .alpha = 6};
      ExpectEqualToCounters({{.model = model,
                              .seq_len = 24,
                              .micro_batch = 1 + n / 2 % 2,
                              .dtype = n % 5 == 0 ? DType::kF64 : DType::kF32,
                              .sequence_parallel = n % 4 < 2,
                              .gradients = {.zero = zero, .bucket_bytes = n % 4 == 0 ? 1 : 3000},
                              .pipeline = {.kind = kind,
                                           .chunks = kind == PipelineKind::kInterleaved ? 2 : 1,
                                           .micro_batches = num_micro_batches},
                              .activation_recompute = static_cast<ActivationRecompute>(n % 3)},
                             {.dp = dp, .pp = pp, .cp = 1, .tp = tp},
                             /*rank=*/0,
                             num_micro_batches},
                            seen);
      model.lora = {};
    }
  }
}

// Both ways of context parallelism, beside the other axes, with windows in some of the models.
void TestContexts(const MeshVector& sizes, std::set<RowKey>* seen) {
  int n = 0;
  std::vector<ModelConfig> models = Models(sizes.tp);
  models.push_back(Model("mistral", sizes.tp, 48, /*tied=*/false));
  for (const ModelConfig& model : models) {
    for (const ContextComm comm : {ContextComm::kRing, ContextComm::kAllGather}) {
      for (const int zero : {0, 1, 2}) {
        ++n;
        const int64_t num_micro_batches = 1 + n % 3;
        ExpectEqualToCounters({{.model = model,
                                .seq_len = 24,
                                .micro_batch = 1 + n / 2 % 2,
                                .dtype = n % 5 == 0 ? DType::kF64 : DType::kF32,
                                .sequence_parallel = n % 4 < 2,
                                .context_comm = comm,
                                .gradients = {.zero = zero, .bucket_bytes = 3000},
                                .pipeline = {.micro_batches = num_micro_batches},
                                .activation_recompute = static_cast<ActivationRecompute>(n % 3)},
                               sizes,
                               /*rank=*/0,
                               num_micro_batches},
                              seen);
      }
    }
  }
}

void TestLayouts(int tp, int dp, std::set<RowKey>* seen) {
  constexpr int64_t kBucketBytes[] = {1, 3000, 25 << 20};
  int n = 0;
  for (const ModelConfig& model : Models(tp)) {
    for (const bool sequence_parallel : {false, true}) {
      for (const int zero : {0, 1, 2}) {
        for (const int64_t num_micro_batches : {1, 3}) {
          ++n;
          ModelConfig trained = model;
          if (n % 7 == 0) trained.lora = {.rank = 3, .alpha = 6};
          ExpectEqualToCounters(
              {{.model = trained,
                .seq_len = 24,
                .micro_batch = 1 + n / 2 % 2,
                .dtype = n % 5 == 0 ? DType::kF64 : DType::kF32,
                .sequence_parallel = sequence_parallel,
                .gradients = {.zero = zero,
                              .bucket_bytes = kBucketBytes[(n + n / 6) % 3],
                              .reduce_in_bf16 = n % 5 == 1},
                .logits_chunk =
                    n % 3 == 0 ? LogitsChunk{.max_bytes = 0, .min_rows = 10} : LogitsChunk(),
                .activation_recompute = static_cast<ActivationRecompute>((n + n / 6) % 3)},
               {.dp = dp, .pp = 1, .cp = 1, .tp = tp},
               /*rank=*/0,
               num_micro_batches},
              seen);
        }
      }
    }
  }
}

TEST(CommCostCountersTest, EveryRowOfEveryLayout) {
  std::set<RowKey> seen;
  for (const int tp : {1, 2, 3, 4, 8}) {
    for (const int dp : {1, 2, 3, 4}) {
      TestLayouts(tp, dp, &seen);
      EXPECT_EQ(seen.empty(), tp * dp == 1);
    }
  }
  TestPipelines(/*tp=*/1, /*pp=*/2, /*dp=*/1, &seen);
  TestPipelines(/*tp=*/2, /*pp=*/2, /*dp=*/2, &seen);
  TestPipelines(/*tp=*/1, /*pp=*/4, /*dp=*/1, &seen);
  for (const int cp : {2, 3, 4}) TestContexts({.dp = 1, .pp = 1, .cp = cp, .tp = 1}, &seen);
  TestContexts({.dp = 2, .pp = 2, .cp = 2, .tp = 1}, &seen);
  TestContexts({.dp = 1, .pp = 1, .cp = 2, .tp = 2}, &seen);
  using Kind = CollectiveKind;
  std::set<RowKey> expected = {
      {Phase::kContext, "cp", Kind::kSend},
      {Phase::kContext, "cp", Kind::kRecv},
      {Phase::kContext, "cp", Kind::kAllGather},
      {Phase::kContext, "cp", Kind::kReduceScatterSum},
      {Phase::kGradients, "dp_cp", Kind::kAllReduceSum},
      {Phase::kGradients, "dp_cp", Kind::kReduceScatterSum},
      {Phase::kShardedOptimizer, "dp_cp", Kind::kAllGather},
      {Phase::kNorm, "dp_cp", Kind::kAllReduceSum},
      {Phase::kControl, "dp_cp", Kind::kAllReduceSum},
      {Phase::kLoss, "tp", Kind::kAllReduceMax},
      {Phase::kLoss, "tp", Kind::kAllReduceSum},
      {Phase::kGradients, "dp", Kind::kAllReduceSum},
      {Phase::kGradients, "dp", Kind::kReduceScatterSum},
      {Phase::kPartialGradients, "tp", Kind::kAllReduceSum},
      {Phase::kPartialGradients, "kv", Kind::kAllReduceSum},
      {Phase::kShardedOptimizer, "dp", Kind::kAllGather},
      {Phase::kNorm, "tp", Kind::kAllReduceSum},
      {Phase::kPipeline, "pp", Kind::kSend},
      {Phase::kPipeline, "pp", Kind::kRecv},
      {Phase::kTiedTable, "pp", Kind::kSend},
      {Phase::kTiedTable, "pp", Kind::kRecv},
      {Phase::kNorm, "dp", Kind::kAllReduceSum},
      {Phase::kNorm, "pp", Kind::kAllReduceSum},
      {Phase::kControl, "tp", Kind::kAllReduceSum},
      {Phase::kControl, "dp", Kind::kAllReduceSum},
      {Phase::kControl, "pp", Kind::kAllReduceSum},
  };
  for (const Phase phase : {Phase::kEmbedding, Phase::kForward, Phase::kBackward, Phase::kHead}) {
    for (const Kind kind : {Kind::kAllReduceSum, Kind::kReduceScatterSum, Kind::kAllGather}) {
      expected.insert({phase, "tp", kind});
    }
  }
  EXPECT_EQ(seen, expected);
}

}  // namespace
}  // namespace strake
