#include "train/evaluation/sequence_scorer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/testing/test_context.h"
#include "gtest/gtest.h"
#include "models/initialize.h"
#include "parallel/mesh/run_on_threads.h"
#include "parallel/pipeline/schedule.h"
#include "train/engine/engine_options.h"
#include "train/engine/inference_model.h"
#include "train/evaluation/evaluation_memory.h"
#include "train/evaluation/evaluation_model.h"

namespace strake {
namespace {

using testing::EvaluationModel;
using testing::SomeIds;
using testing::TestContext;

// The limit of what a layout or a batch may change in f64: some hundred roundings of 1e-16 each.
constexpr double kF64Tolerance = 1e-12;

struct Sequences {
  std::vector<std::vector<int32_t>> ids;
  std::vector<ScoredSequence> scored;
};

// Lengths from 2 to 17 ids in a mixed order, most of which share a pass with others.
Sequences MixedSequences() {
  Sequences all;
  for (int64_t i = 0; i < 23; ++i) {
    const int64_t num_ids = 2 + i * 5 % 16;
    all.ids.push_back(SomeIds(num_ids, i));
    all.scored.push_back({.num_ids = num_ids, .first = 1 + i % (num_ids - 1)});
  }
  return all;
}

absl::StatusOr<std::vector<double>> Score(SequenceScorer& scorer, const Sequences& sequences) {
  return scorer.SumLosses(sequences.scored, [&](int64_t i, int32_t* ids) {
    std::copy(sequences.ids[i].begin(), sequences.ids[i].end(), ids);
    return absl::OkStatus();
  });
}

std::vector<double> ScoreAlone(const EvaluationModel& model, const Sequences& sequences) {
  std::vector<double> losses;
  for (size_t i = 0; i < sequences.ids.size(); ++i) {
    losses.push_back(model.LossOf(sequences.ids[i], sequences.scored[i].first));
  }
  return losses;
}

void ExpectNear(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], tolerance * std::abs(b[i])) << i;
}

TEST(SequenceScorerTest, AWeightlessModelKnowsNothing) {
  const EvaluationModel model(/*zero=*/true);
  const TestContext ctx(OpSet::kReference, 1);
  const Mesh mesh = Mesh::SingleRank();
  SequenceScorer scorer(ctx, model, mesh, {.pass_tokens = 40});
  const Sequences sequences = MixedSequences();
  const auto losses = Score(scorer, sequences);
  ASSERT_TRUE(losses.ok()) << losses.status();
  for (size_t i = 0; i < losses->size(); ++i) {
    const double expected =
        static_cast<double>(sequences.scored[i].num_predicted()) * std::log(testing::kVocab);
    EXPECT_NEAR((*losses)[i], expected, kF64Tolerance * expected) << i;
  }
}

// With an arena of the context's that has room, and with one that has none.
TEST(SequenceScorerTest, BatchesGiveWhatEachSequenceGivesAlone) {
  const EvaluationModel model;
  const Sequences sequences = MixedSequences();
  const std::vector<double> expected = ScoreAlone(model, sequences);
  EXPECT_GT(expected[0], 0);
  EXPECT_NE(expected[0], expected[1]);
  const Mesh mesh = Mesh::SingleRank();
  for (const size_t arena_bytes : {size_t{64}, size_t{1} << 24}) {
    const TestContext ctx(OpSet::kReference, 1, arena_bytes);
    for (const int64_t pass_tokens : {1, 16, 17, 50, 1000}) {
      SequenceScorer scorer(ctx, model, mesh, {.pass_tokens = pass_tokens});
      const auto losses = Score(scorer, sequences);
      ASSERT_TRUE(losses.ok()) << losses.status();
      ExpectNear(*losses, expected, kF64Tolerance);
    }
  }
}

TEST(SequenceScorerTest, F32IsF64Rounded) {
  const Sequences sequences = MixedSequences();
  const std::vector<double> expected = ScoreAlone(EvaluationModel(), sequences);
  const EvaluationModel model(/*zero=*/false, DType::kF32);
  const TestContext ctx;
  const Mesh mesh = Mesh::SingleRank();
  SequenceScorer scorer(ctx, model, mesh, {.pass_tokens = 50});
  const auto losses = Score(scorer, sequences);
  ASSERT_TRUE(losses.ok()) << losses.status();
  // Roundings of a chain of 27 sums (12 in each of two blocks, embedding, last norm and head) of at
  // most 30 terms each, independent of each other, the largest four times their root mean square.
  const double tolerance = 4 * std::sqrt(27 * 30.0) * std::numeric_limits<float>::epsilon() / 2;
  ExpectNear(*losses, expected, tolerance);
}

TEST(SequenceScorerTest, EveryLayoutGivesTheLossesOfOneRank) {
  const Sequences sequences = MixedSequences();
  const std::vector<double> expected = ScoreAlone(EvaluationModel(), sequences);
  for (const MeshVector& sizes :
       {MeshVector{2, 1, 1, 1}, {3, 1, 1, 1}, {1, 1, 1, 2}, {2, 1, 1, 2}}) {
    for (const bool sequence_parallel : {false, true}) {
      SCOPED_TRACE(sizes.ToString());
      std::vector<std::vector<double>> losses(NumRanks(sizes));
      const absl::Status status =
          RunOnThreads(sizes, {.timeout = std::chrono::minutes(1), .check = true},
                       [&](const Mesh& mesh) -> absl::Status {
                         const EvaluationModel model(
                             false, DType::kF64,
                             TensorParallel(mesh.communicator(MeshAxis::kTp), sequence_parallel));
                         const TestContext ctx(OpSet::kReference, 1, 64);
                         SequenceScorer scorer(ctx, model, mesh, {.pass_tokens = 34});
                         STRAKE_ASSIGN_OR_RETURN(losses[mesh.rank()], Score(scorer, sequences));
                         return absl::OkStatus();
                       });
      ASSERT_TRUE(status.ok()) << status;
      for (const std::vector<double>& rank : losses) {
        ExpectNear(rank, expected, kF64Tolerance);
        EXPECT_EQ(rank, losses[0]);
      }
    }
  }
}

// Passes do not depend on the number of data-parallel ranks, so neither do bits.
TEST(SequenceScorerTest, DataParallelRanksChangeNoBit) {
  const Sequences sequences = MixedSequences();
  const auto score = [&](int dp) {
    std::vector<double> losses;
    const absl::Status status = RunOnThreads(
        {dp, 1, 1, 1}, {.timeout = std::chrono::minutes(1)}, [&](const Mesh& mesh) -> absl::Status {
          const EvaluationModel model(false, DType::kF32);
          const TestContext ctx(OpSet::kAuto, 1);
          SequenceScorer scorer(ctx, model, mesh, {.pass_tokens = 34});
          STRAKE_ASSIGN_OR_RETURN(std::vector<double> mine, Score(scorer, sequences));
          if (mesh.rank() == 0) losses = std::move(mine);
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
    return losses;
  };
  const std::vector<double> one = score(1);
  EXPECT_EQ(one.size(), sequences.ids.size());
  EXPECT_EQ(score(2), one);
  EXPECT_EQ(score(5), one);
}

EngineOptions StageOptions(DType dtype, int stages, int chunks) {
  EngineOptions options = {.model = EvaluationModel::Config(),
                           .seq_len = testing::kMaxPositions,
                           .dtype = dtype,
                           .activation_recompute = kEvaluationRecompute};
  options.model.num_layers = 4;
  if (chunks > 1) options.pipeline.kind = PipelineKind::kInterleaved;
  options.pipeline.chunks = chunks;
  options.pipeline.micro_batches = stages;
  return options;
}

// Arenas have exactly the planned bytes.
std::vector<std::vector<double>> ScoreInStages(const MeshVector& sizes, int chunks, DType dtype) {
  const Sequences sequences = MixedSequences();
  std::vector<std::vector<double>> losses(NumRanks(sizes));
  const absl::Status status = RunOnThreads(
      sizes, {.timeout = std::chrono::minutes(1), .check = true},
      [&](const Mesh& mesh) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(
            const std::unique_ptr<InferenceModel> model,
            InferenceModel::Create(StageOptions(dtype, sizes.pp, chunks), mesh));
        ThreadTeam team(1);
        STRAKE_RETURN_IF_ERROR(InitializeParameters(/*seed=*/3, team, &model->parameters()));
        const TestContext ctx(OpSet::kAuto, 1, 64);
        SequenceScorer scorer(ctx, model->parts(), mesh, {.pass_tokens = 34});
        STRAKE_ASSIGN_OR_RETURN(losses[mesh.rank()], Score(scorer, sequences));
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return losses;
}

TEST(SequenceScorerTest, StagesChangeNoBit) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int tp : {1, 2}) {
      const std::vector<double> one = ScoreInStages({1, 1, 1, tp}, 1, dtype)[0];
      ASSERT_EQ(one.size(), MixedSequences().ids.size());
      EXPECT_GT(one[0], 0);
      for (const auto& [dp, pp, chunks] :
           {std::array{1, 2, 1}, {1, 4, 1}, {1, 2, 2}, {2, 2, 1}, {3, 2, 2}}) {
        SCOPED_TRACE(absl::StrCat("dp ", dp, ", pp ", pp, ", tp ", tp, ", chunks ", chunks));
        for (const std::vector<double>& rank : ScoreInStages({dp, pp, 1, tp}, chunks, dtype)) {
          EXPECT_EQ(rank, one);
        }
      }
    }
  }
}

TEST(EvaluationMemoryTest, EachStageHasItsOwnWeights) {
  const std::vector<PassShape> shapes = {{.batch = 2, .seq_len = testing::kMaxPositions}};
  const auto bytes = [&](const MeshVector& sizes, int stage) {
    return EvaluationBytes(StageOptions(DType::kF32, sizes.pp, 1), sizes, stage, shapes);
  };
  const auto num_weights = [](const MeshVector& sizes, int stage) {
    return InferenceModel::DryRun(StageOptions(DType::kF32, sizes.pp, 1), sizes, stage)
        ->parameters()
        .num_elements();
  };
  constexpr MeshVector kOne = {1, 1, 1, 1}, kStages = {2, 2, 1, 1};
  const int64_t whole = num_weights(kOne, 0);
  EXPECT_EQ(num_weights(kStages, 0) + num_weights(kStages, 1), whole);
  EXPECT_GT(bytes(kOne, 0), 4.0 * whole);
  const double first = bytes(kStages, 0), last = bytes(kStages, 1);
  EXPECT_GT(first, 4.0 * num_weights(kStages, 0));
  EXPECT_LT(std::max(first, last), bytes(kOne, 0));
  const auto of_stage = [&](int stage) { return bytes(kStages, stage); };
  EXPECT_EQ(BytesOfRanks(kStages, 4, of_stage), 2 * (first + last));
  EXPECT_EQ(BytesOfRanks(kStages, 1, of_stage), std::max(first, last));
}

TEST(SequenceScorerTest, StopsWhenAsked) {
  const EvaluationModel model;
  const TestContext ctx(OpSet::kReference, 1);
  const Mesh mesh = Mesh::SingleRank();
  int turns = 0;
  SequenceScorer scorer(ctx, model, mesh,
                        {.pass_tokens = 16, .stop = [&] { return ++turns == 3; }});
  EXPECT_EQ(Score(scorer, MixedSequences()).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(turns, 3);
}

TEST(SequenceScorerTest, TellsItsProgress) {
  const EvaluationModel model;
  const TestContext ctx(OpSet::kReference, 1);
  const Mesh mesh = Mesh::SingleRank();
  std::vector<int64_t> done;
  int64_t all = 0;
  SequenceScorer scorer(ctx, model, mesh,
                        {.pass_tokens = 16, .on_progress = [&](int64_t now, int64_t total) {
                           done.push_back(now);
                           all = total;
                         }});
  const Sequences sequences = MixedSequences();
  ASSERT_TRUE(Score(scorer, sequences).ok());
  int64_t inputs = 0;
  for (const ScoredSequence& s : sequences.scored) inputs += s.num_inputs();
  EXPECT_EQ(all, inputs);
  EXPECT_EQ(done.back(), inputs);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_GT(done.size(), 3u);
}

TEST(SequenceScorerTest, ALossThatIsNotFiniteIsAnError) {
  EvaluationModel model(/*zero=*/false, DType::kF32);
  const TestContext ctx;
  const Mesh mesh = Mesh::SingleRank();
  SequenceScorer scorer(ctx, model, mesh, {});
  ASSERT_TRUE(Score(scorer, MixedSequences()).ok());
  // Of token 0's embedding, the first parameter.
  model.parameters().records().front().parameter.value.data<float>()[0] = NAN;
  const auto losses =
      Score(scorer, {.ids = {{1, 2, 3}, {1, 0, 3}}, .scored = {{.num_ids = 3}, {.num_ids = 3}}});
  EXPECT_EQ(losses.status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(losses.status().message().find("the loss of sequence 1 is nan"), 0u) << losses.status();
}

TEST(SequenceScorerTest, ATokenOutsideTheVocabularyIsAnError) {
  const EvaluationModel model;
  const TestContext ctx(OpSet::kReference, 1);
  const Mesh mesh = Mesh::SingleRank();
  SequenceScorer scorer(ctx, model, mesh, {});
  const auto losses = Score(scorer, {.ids = {{1, 2, testing::kVocab}}, .scored = {{.num_ids = 3}}});
  EXPECT_EQ(losses.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace strake
