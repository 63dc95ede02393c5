// Closed forms, derived by hand. //tests compares with real training steps.
#include "train/plan/comm_cost.h"

#include <ostream>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/gpt2.h"
#include "models/families/llama.h"

namespace strake {

// Prints failures; found by argument-dependent lookup.
void PrintTo(const CommCostRow& row, std::ostream* out) {
  *out << CommPhaseName(row.phase) << " " << row.axis << row.num_ranks << " "
       << CollectiveName(row.collective) << " " << row.calls << " " << row.bytes;
}

namespace {

using Kind = CollectiveKind;
using Phase = CommPhase;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

// Sizes are multiples of 64 on each of 4 ranks, so that the index space has no gaps.
CommCostOptions Sized(const ModelFamily& family, int tp, int dp) {
  CommCostOptions o;
  o.model = family.new_config();
  o.model.vocab_size = 128;
  o.model.max_positions = 16;
  o.model.hidden_size = 64;
  o.model.num_layers = 1;
  o.model.num_heads = 4;
  o.model.num_kv_heads = 2;
  o.model.head_dim = 16;
  o.model.intermediate_size = 128;
  o.model.tie_word_embeddings = false;
  o.sizes = {.dp = dp, .pp = 1, .cp = 1, .tp = tp};
  o.seq_len = 8;
  o.micro_batch = 2;
  o.num_micro_batches = 3;
  return o;
}

CommCostOptions Llama(int tp, int dp) { return Sized(kLlamaFamily, tp, dp); }

CommCostOptions Gpt2(int tp, int dp) {
  CommCostOptions o = Sized(kGpt2Family, tp, dp);
  o.model.num_kv_heads = 4;
  o.model.tie_word_embeddings = true;
  return o;
}

std::vector<CommCostRow> Cost(const CommCostOptions& options) {
  const auto rows = CommCost(options);
  EXPECT_TRUE(rows.ok()) << rows.status();
  return *rows;
}

std::vector<CommCostRow> Of(Phase phase, const CommCostOptions& options) {
  std::vector<CommCostRow> rows = Cost(options);
  std::erase_if(rows, [&](const CommCostRow& row) { return row.phase != phase; });
  return rows;
}

// Elements of the residual stream in a micro-batch, and its bytes.
constexpr int64_t kTokens = 16, kStream = kTokens * 64 * 4;

TEST(CommCostTest, OneRankCostsNothing) {
  for (const int zero : {0, 1, 2}) {
    for (CommCostOptions o : {Llama(1, 1), Gpt2(1, 1)}) {
      o.gradients.zero = zero;
      o.sequence_parallel = true;
      EXPECT_TRUE(Cost(o).empty());
    }
  }
}

TEST(CommCostTest, AnAxisOfOneRankCostsNothing) {
  for (const CommCostRow& row : Cost(Gpt2(1, 2))) EXPECT_EQ(row.axis, "dp");
  for (const CommCostRow& row : Cost(Gpt2(2, 1))) EXPECT_EQ(row.axis, "tp");
}

TEST(CommCostTest, TensorParallelByHand) {
  EXPECT_THAT(Cost(Gpt2(2, 1)),
              ElementsAreArray<CommCostRow>({
                  {Phase::kEmbedding, "tp", 2, Kind::kAllReduceSum, 3, 3 * kStream},
                  {Phase::kForward, "tp", 2, Kind::kAllReduceSum, 6, 6 * kStream},
                  {Phase::kBackward, "tp", 2, Kind::kAllReduceSum, 6, 6 * kStream},
                  {Phase::kHead, "tp", 2, Kind::kAllReduceSum, 3, 3 * kStream},
                  {Phase::kLoss, "tp", 2, Kind::kAllReduceMax, 3, 3 * 16 * 4},
                  {Phase::kLoss, "tp", 2, Kind::kAllReduceSum, 3, 3 * 32 * 4},
                  {Phase::kNorm, "tp", 2, Kind::kAllReduceSum, 1, 160},
                  {Phase::kControl, "tp", 2, Kind::kAllReduceSum, 1, 8},
              }));
}

TEST(CommCostTest, EachChunkOfLogitsHasItsSums) {
  CommCostOptions o = Gpt2(2, 1);
  o.logits_chunk = {.max_bytes = 0, .min_rows = 5};  // of 16 tokens: 5, 5, 5, 1
  EXPECT_THAT(Of(Phase::kLoss, o),
              ElementsAreArray<CommCostRow>({
                  {Phase::kLoss, "tp", 2, Kind::kAllReduceMax, 3 * 4, 3 * 16 * 4},
                  {Phase::kLoss, "tp", 2, Kind::kAllReduceSum, 3 * 4, 3 * 32 * 4},
              }));
}

TEST(CommCostTest, RecomputationRepeatsTheAllGathersOfALayersNorms) {
  CommCostOptions o = Gpt2(2, 1);
  const std::vector<CommCostRow> none = Cost(o);
  for (const auto recompute : {ActivationRecompute::kSelective, ActivationRecompute::kFull}) {
    o = Gpt2(2, 1);
    o.activation_recompute = recompute;
    EXPECT_EQ(Cost(o), none);
    o.sequence_parallel = true;
    EXPECT_THAT(Of(Phase::kBackward, o),
                ElementsAreArray<CommCostRow>({
                    {Phase::kBackward, "tp", 2, Kind::kReduceScatterSum, 6, 6 * kStream},
                    {Phase::kBackward, "tp", 2, Kind::kAllGather, 12, 12 * kStream},
                }));
    EXPECT_THAT(Of(Phase::kForward, o),
                ElementsAreArray<CommCostRow>({
                    {Phase::kForward, "tp", 2, Kind::kReduceScatterSum, 6, 6 * kStream},
                    {Phase::kForward, "tp", 2, Kind::kAllGather, 6, 6 * kStream},
                }));
  }
}

TEST(CommCostTest, ABlockHasFourAllReduces) {
  CommCostOptions o = Gpt2(4, 1);
  o.num_micro_batches = 1;
  const auto total = [&](int64_t layers, int64_t CommCostRow::*what) {
    o.model.num_layers = layers;
    int64_t sum = 0;
    for (const CommCostRow& row : Cost(o)) sum += row.*what;
    return sum;
  };
  EXPECT_EQ(total(8, &CommCostRow::calls) - total(7, &CommCostRow::calls), 4);
  EXPECT_EQ(total(8, &CommCostRow::bytes) - total(7, &CommCostRow::bytes), 4 * kStream);
}

// Parameters of four ranks, two of which hold each key/value head, in forward order.
constexpr int64_t kTable = 128 / 4 * 64, kNorm = 64, kQ = 64 * 16, kKv = 64 * 32, kOut = 16 * 64,
                  kGateUp = 64 * 64, kDown = 32 * 64;
constexpr int64_t kElements = 2 * kTable + 3 * kNorm + kQ + kKv + kOut + kGateUp + kDown;

CommCostOptions ShardedLlama(int dp_rank) {
  CommCostOptions o = Llama(4, 2);
  o.rank = 4 * dp_rank;
  o.sequence_parallel = true;
  o.gradients = {.zero = 1, .bucket_bytes = 1};
  return o;
}

TEST(CommCostTest, EverySliceAtOnceByHand) {
  // Every parameter is a bucket. The first data-parallel rank has half of each, and all of a norm:
  // its 64 elements and as many of padding.
  constexpr int64_t kPadded = kElements + 3 * kNorm;
  EXPECT_THAT(Cost(ShardedLlama(0)),
              ElementsAreArray<CommCostRow>({
                  {Phase::kEmbedding, "tp", 4, Kind::kReduceScatterSum, 3, 3 * kStream},
                  {Phase::kEmbedding, "tp", 4, Kind::kAllGather, 3, 3 * kStream},
                  {Phase::kForward, "tp", 4, Kind::kReduceScatterSum, 6, 6 * kStream},
                  {Phase::kForward, "tp", 4, Kind::kAllGather, 6, 6 * kStream},
                  {Phase::kBackward, "tp", 4, Kind::kReduceScatterSum, 6, 6 * kStream},
                  {Phase::kBackward, "tp", 4, Kind::kAllGather, 6, 6 * kStream},
                  {Phase::kHead, "tp", 4, Kind::kReduceScatterSum, 3, 3 * kStream},
                  {Phase::kHead, "tp", 4, Kind::kAllGather, 3, 3 * kStream},
                  {Phase::kLoss, "tp", 4, Kind::kAllReduceMax, 3, 3 * kTokens * 4},
                  {Phase::kLoss, "tp", 4, Kind::kAllReduceSum, 3, 3 * 2 * kTokens * 4},
                  {Phase::kGradients, "dp", 2, Kind::kReduceScatterSum, 9, kPadded * 4},
                  {Phase::kPartialGradients, "tp", 4, Kind::kAllReduceSum, 1, 3 * kNorm * 4},
                  {Phase::kPartialGradients, "kv", 2, Kind::kAllReduceSum, 1, kKv / 2 * 4},
                  {Phase::kShardedOptimizer, "dp", 2, Kind::kAllGather, 9, kPadded * 4},
                  {Phase::kNorm, "tp", 4, Kind::kAllReduceSum, 1, 160},
                  {Phase::kNorm, "dp", 2, Kind::kAllReduceSum, 1, 160},
                  {Phase::kControl, "tp", 4, Kind::kAllReduceSum, 1, 8},
                  {Phase::kControl, "dp", 2, Kind::kAllReduceSum, 1, 16},
              }));
}

TEST(CommCostTest, RanksOfAStepHavePartialGradientsOfTheirOwn) {
  // The second data-parallel rank has the norms' padding.
  EXPECT_THAT(Of(Phase::kPartialGradients, ShardedLlama(1)),
              ElementsAreArray<CommCostRow>(
                  {{Phase::kPartialGradients, "kv", 2, Kind::kAllReduceSum, 1, kKv / 2 * 4}}));
}

TEST(CommCostTest, AHeadThatEveryRankHoldsIsSummedOverAll) {
  CommCostOptions o = Llama(4, 1);
  o.model.num_kv_heads = 1;
  EXPECT_THAT(Of(Phase::kPartialGradients, o),
              ElementsAreArray<CommCostRow>(
                  {{Phase::kPartialGradients, "tp", 4, Kind::kAllReduceSum, 1, kKv * 4}}));
}

TEST(CommCostTest, GradientsBySharding) {
  CommCostOptions o = Llama(4, 3);
  o.gradients.bucket_bytes = 1;  // a bucket for each of 9 parameters
  EXPECT_THAT(Of(Phase::kGradients, o),
              ElementsAreArray<CommCostRow>(
                  {{Phase::kGradients, "dp", 3, Kind::kAllReduceSum, 9, kElements * 4}}));
  o.gradients.zero = 2;
  const auto padded = [](int64_t elements) { return (elements + 191) / 192 * 192; };
  const int64_t all = 2 * padded(kTable) + 3 * padded(kNorm) + padded(kQ + kKv) + padded(kOut) +
                      padded(kGateUp) + padded(kDown);
  EXPECT_THAT(Of(Phase::kGradients, o),
              ElementsAreArray<CommCostRow>(
                  {{Phase::kGradients, "dp", 3, Kind::kReduceScatterSum, 3 * 9, 3 * all * 4}}));
  o.gradients.bucket_bytes = 4 * kElements;
  EXPECT_THAT(Of(Phase::kGradients, o),
              ElementsAreArray<CommCostRow>({{Phase::kGradients, "dp", 3, Kind::kReduceScatterSum,
                                              3, 3 * padded(kElements) * 4}}));
}

TEST(CommCostTest, GradientsReducedInBf16AreHalfTheBytes) {
  CommCostOptions o = ShardedLlama(0);
  for (const int zero : {0, 1, 2}) {
    o.gradients.zero = zero;
    o.gradients.reduce_in_bf16 = false;
    const std::vector<CommCostRow> f32 = Cost(o);
    o.gradients.reduce_in_bf16 = true;
    const std::vector<CommCostRow> bf16 = Cost(o);
    ASSERT_EQ(f32.size(), bf16.size());
    for (size_t i = 0; i < f32.size(); ++i) {
      const int64_t times = f32[i].phase == Phase::kGradients ? 2 : 1;
      EXPECT_EQ(f32[i].bytes, times * bf16[i].bytes) << ::testing::PrintToString(f32[i]);
      EXPECT_EQ(f32[i].calls, bf16[i].calls);
    }
  }
}

CommCostOptions Staged(CommCostOptions o, int stages, int chunks = 1) {
  o.sizes.pp = stages;
  o.model.num_layers = stages * chunks;
  o.pipeline.chunks = chunks;
  if (chunks > 1) o.pipeline.kind = PipelineKind::kInterleaved;
  return o;
}

// Either end of a model of two stages sends as much as it receives: 3 micro-batches, and the
// gradient of the tied table.
TEST(CommCostTest, TwoStagesByHand) {
  constexpr int64_t kTied = 128 * 64 * 4;
  CommCostOptions o = Staged(Gpt2(1, 1), 2);
  for (o.rank = 0; o.rank < 2; ++o.rank) {
    EXPECT_THAT(Cost(o), ElementsAreArray<CommCostRow>({
                             {Phase::kPipeline, "pp", 2, Kind::kSend, 3, 3 * kStream},
                             {Phase::kPipeline, "pp", 2, Kind::kRecv, 3, 3 * kStream},
                             {Phase::kTiedTable, "pp", 2, Kind::kSend, 1, kTied},
                             {Phase::kTiedTable, "pp", 2, Kind::kRecv, 1, kTied},
                             {Phase::kNorm, "pp", 2, Kind::kAllReduceSum, 1, 160},
                             {Phase::kControl, "pp", 2, Kind::kAllReduceSum, 1, 16},
                         }));
  }
}

TEST(CommCostTest, AStageInTheMiddleSendsBothWays) {
  CommCostOptions o = Staged(Llama(1, 1), 3);
  o.rank = 1;
  EXPECT_THAT(Cost(o), ElementsAreArray<CommCostRow>({
                           {Phase::kPipeline, "pp", 2, Kind::kSend, 6, 6 * kStream},
                           {Phase::kPipeline, "pp", 2, Kind::kRecv, 6, 6 * kStream},
                           {Phase::kNorm, "pp", 3, Kind::kAllReduceSum, 1, 160},
                           {Phase::kControl, "pp", 3, Kind::kAllReduceSum, 1, 16},
                       }));
}

// One of two chunks on each of two stages has parts on both sides.
TEST(CommCostTest, EveryChunkSends) {
  CommCostOptions o = Staged(Llama(1, 1), 2, /*chunks=*/2);
  o.num_micro_batches = 4;
  for (o.rank = 0; o.rank < 2; ++o.rank) {
    EXPECT_THAT(Of(Phase::kPipeline, o),
                ElementsAreArray<CommCostRow>({
                    {Phase::kPipeline, "pp", 2, Kind::kSend, 4 * 3, 4 * 3 * kStream},
                    {Phase::kPipeline, "pp", 2, Kind::kRecv, 4 * 3, 4 * 3 * kStream},
                }));
  }
}

TEST(CommCostTest, SequenceParallelRanksSendTheirRows) {
  CommCostOptions o = Staged(Llama(2, 1), 2);
  for (const bool sequence_parallel : {false, true}) {
    o.sequence_parallel = sequence_parallel;
    const int64_t bytes = 3 * kStream / (sequence_parallel ? 2 : 1);
    EXPECT_THAT(Of(Phase::kPipeline, o), ElementsAreArray<CommCostRow>(
                                             {{Phase::kPipeline, "pp", 2, Kind::kSend, 3, bytes},
                                              {Phase::kPipeline, "pp", 2, Kind::kRecv, 3, bytes}}));
  }
}

TEST(CommCostTest, DTypes) {
  CommCostOptions o = ShardedLlama(0);
  const std::vector<CommCostRow> f32 = Cost(o);
  o.dtype = DType::kBf16;
  const std::vector<CommCostRow> bf16 = Cost(o);
  ASSERT_EQ(f32.size(), bf16.size());
  for (size_t i = 0; i < f32.size(); ++i) {
    // Gradients of bf16 weights are f32, and so are the loss's sums; the norm is i64 and control
    // f64.
    const bool same = f32[i].phase == Phase::kLoss || f32[i].phase == Phase::kGradients ||
                      f32[i].phase == Phase::kPartialGradients || f32[i].phase >= Phase::kNorm;
    EXPECT_EQ(f32[i].bytes, same ? bf16[i].bytes : 2 * bf16[i].bytes)
        << ::testing::PrintToString(f32[i]);
  }
}

TEST(CommCostTest, ARing) {
  const CommLink link = {.bytes_per_second = 100, .latency_seconds = 0.5};
  // Two rounds of 3 messages, each a quarter of the payload; then one round.
  const CommCostRow reduce = {Phase::kForward, "tp", 4, Kind::kAllReduceSum, 2, 800};
  EXPECT_EQ(reduce.RingBytes(), 2 * 600);
  EXPECT_EQ(reduce.Seconds(link), 12 + 2 * 6 * 0.5);
  const CommCostRow max = {Phase::kLoss, "tp", 4, Kind::kAllReduceMax, 2, 800};
  EXPECT_EQ(max.Seconds(link), reduce.Seconds(link));
  for (const Kind kind : {Kind::kAllGather, Kind::kReduceScatterSum}) {
    const CommCostRow row = {Phase::kForward, "tp", 4, kind, 2, 800};
    EXPECT_EQ(row.RingBytes(), 600);
    EXPECT_EQ(row.Seconds(link), 6 + 2 * 3 * 0.5);
  }
}

TEST(CommCostTest, AMessageIsSentOnce) {
  const CommLink link = {.bytes_per_second = 100, .latency_seconds = 0.5};
  const CommCostRow send = {Phase::kPipeline, "pp", 2, Kind::kSend, 3, 600};
  EXPECT_EQ(send.RingBytes(), 600);
  EXPECT_EQ(send.Seconds(link), 6 + 3 * 0.5);
  const CommCostRow receive = {Phase::kPipeline, "pp", 2, Kind::kRecv, 3, 600};
  EXPECT_EQ(receive.RingBytes(), 0);
  EXPECT_EQ(receive.Seconds(link), 0);
}

TEST(CommCostTest, StagesThatCannotBe) {
  CommCostOptions o = Staged(Llama(1, 1), 4);
  o.model.num_layers = 3;
  EXPECT_EQ(CommCost(o).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(CommCost(o).status().message(), HasSubstr("3"));
  o = Staged(Llama(1, 1), 2, /*chunks=*/2);
  o.num_micro_batches = 1;
  EXPECT_EQ(CommCost(o).status().code(), absl::StatusCode::kInvalidArgument);
  // More tokens than are counted, on a stage of which the cut is known.
  o = Staged(Llama(1, 1), 2);
  o.micro_batch = int64_t{1} << 50;
  EXPECT_THAT(CommCost(o).status().message(), HasSubstr("at most 2^62"));
}

TEST(CommCostTest, LayoutsThatCannotBe) {
  EXPECT_THAT(CommCost(Llama(3, 1)).status().message(), HasSubstr("4"));
  CommCostOptions o = Llama(2, 2);
  o.num_micro_batches = int64_t{1} << 50;
  const auto rows = CommCost(o);
  EXPECT_EQ(rows.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(rows.status().message(), HasSubstr("1125899906842624 micro-batches of 2"));
}

TEST(CommCostDeathTest, Arguments) {
  CommCostOptions o = Llama(2, 2);
  o.rank = 4;
  EXPECT_DEATH(CommCost(o).IgnoreError(), "rank 4 in sizes dp 2, pp 1, cp 1, tp 2");
  o = Llama(4, 1);
  o.sequence_parallel = true;
  o.seq_len = o.micro_batch = 3;
  EXPECT_DEATH(CommCost(o).IgnoreError(), "9 tokens over 4 sequence-parallel ranks");
  o.seq_len = 0;
  EXPECT_DEATH(CommCost(o).IgnoreError(), "seq_len 0");
}

}  // namespace
}  // namespace strake
