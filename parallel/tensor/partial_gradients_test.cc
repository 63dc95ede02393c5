#include "parallel/tensor/partial_gradients.h"

#include <algorithm>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "core/memory/parameter_arena.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/mesh/mesh.h"
#include "parallel/mesh/run_on_threads.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/sharded_parameter.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::GetElement;
using testing::SameBits;
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;

constexpr int64_t kHeads = 24, kHeadDim = 3, kRows = 7, kNormSize = 70, kBiasSize = 90;

struct Layout {
  int num_ranks, num_kv_heads;
  bool sequence_parallel;

  int kv_holders() const { return num_ranks > num_kv_heads ? num_ranks / num_kv_heads : 1; }
  int64_t kv_columns() const { return 2 * kHeadDim * num_kv_heads * kv_holders() / num_ranks; }
};

std::ostream& operator<<(std::ostream& out, const Layout& layout) {
  return out << layout.num_ranks << " ranks, " << layout.num_kv_heads << " key/value heads"
             << (layout.sequence_parallel ? ", sequence parallel" : "");
}

std::vector<Layout> Layouts() {
  std::vector<Layout> layouts;
  for (const auto& [num_ranks, num_kv_heads] : std::vector<std::pair<int, int>>{{1, 1},
                                                                                {2, 1},
                                                                                {2, 2},
                                                                                {3, 1},
                                                                                {3, 3},
                                                                                {4, 1},
                                                                                {4, 2},
                                                                                {6, 1},
                                                                                {6, 2},
                                                                                {6, 3},
                                                                                {8, 1},
                                                                                {8, 2}}) {
    layouts.push_back({num_ranks, num_kv_heads, false});
    layouts.push_back({num_ranks, num_kv_heads, true});
  }
  return layouts;
}

// A rank's part of: a vocabulary of 11 rows, a norm, [Q | K | V] with its bias, a row-parallel
// weight and its bias.
void AddModel(const Layout& layout, const TensorParallel& tp, ParameterArena* arena) {
  const ReplicatedGrad replicated =
      layout.sequence_parallel ? ReplicatedGrad::kPartial : ReplicatedGrad::kWhole;
  const int64_t q = kHeads * kHeadDim, kv = layout.num_kv_heads * kHeadDim;
  const auto add = [&](const std::vector<ParameterSegment>& segments, const WeightShards& shards) {
    AddShardedParameter(segments, shards, tp, true, {}, arena);
  };
  const auto add_qkv = [&](const Shape& shape) {
    const auto shards = WeightShards::Split(
        shape, -1, QkvSegments(kHeads, layout.num_kv_heads, kHeadDim), tp.size());
    add({{.name = "q", .columns = q}, {.name = "k", .columns = kv}, {.name = "v", .columns = kv}},
        shards.value());
  };
  add({{.name = "table", .columns = 3}}, WeightShards::Vocab({11, 3}, 0, tp.size()));
  AddReplicatedParameter({{.name = "norm", .columns = kNormSize}}, {kNormSize}, tp, replicated,
                         false, {}, arena);
  add_qkv({kRows, q + 2 * kv});
  add_qkv({q + 2 * kv});
  add({{.name = "out", .columns = 5}},
      WeightShards::Split({q, 5}, 0, {{.name = "rows", .num_units = q}}, tp.size()).value());
  AddReplicatedParameter({{.name = "bias", .columns = kBiasSize}}, {kBiasSize}, tp, replicated,
                         false, {}, arena);
}

int NumTerms(const Layout& layout, const std::string& name) {
  if (name == "k" || name == "v") return layout.kv_holders();
  if (name == "norm" || name == "bias") return layout.sequence_parallel ? layout.num_ranks : 1;
  return 1;
}

// By element of the index space; 1 in gaps.
std::vector<int> NumTerms(const Layout& layout, const ParameterArena& arena) {
  std::vector<int> terms(arena.num_elements(), 1);
  for (const ParameterRecord& record : arena.records()) {
    int64_t at = record.offset;
    while (at < record.end()) {
      for (const ParameterSegment& segment : record.segments) {
        for (int64_t i = 0; i < segment.columns; ++i) terms[at++] = NumTerms(layout, segment.name);
      }
    }
  }
  return terms;
}

// The terms of rank `rank`; gaps are filled too, and must not change.
void FillTerms(int rank, const Tensor& grads) { FillSmallIntegers(grads, rank + 1); }

// grads = the expected result of Sum() over `range` for rank `rank`.
void FillSums(int rank, int num_ranks, const std::vector<int>& num_terms, const ShardRange& range,
              const Tensor& grads) {
  FillTerms(rank, grads);
  TestTensor term(grads.dtype(), grads.shape());
  for (int other = 0; other < num_ranks; ++other) {
    if (other == rank) continue;
    FillTerms(other, term);
    for (int64_t i = range.begin; i < range.end; ++i) {
      // Holders are neighbours, the first of them a multiple of their number.
      if (other / num_terms[i] != rank / num_terms[i]) continue;
      SetElement(grads, i, GetElement(grads, i) + GetElement(term, i));
    }
  }
}

absl::Status SumAndCompare(const Layout& layout, DType dtype, const Mesh& mesh,
                           int64_t piece_size) {
  const TestContext ctx(OpSet::kAuto, 1);
  const TensorParallel tp(mesh.communicator(MeshAxis::kTp), layout.sequence_parallel);
  ParameterArena parameters;
  AddModel(layout, tp, &parameters);
  const int64_t size = parameters.num_elements();
  TestTensor grads(dtype, {size}), expected(dtype, {size});
  FillTerms(mesh.rank(), grads);
  FillSums(mesh.rank(), layout.num_ranks, NumTerms(layout, parameters), {0, size}, expected);
  EXPECT_EQ(SameBits(grads, expected), layout.kv_holders() == 1 && !tp.sequence_parallel());
  STRAKE_ASSIGN_OR_RETURN(const PartialGradients partial, PartialGradients::Create(parameters, tp));
  std::vector<ArenaPart> parts;
  for (int64_t begin = 0; begin < size; begin += piece_size) {
    parts.push_back({begin, grads->Rows(begin, std::min(begin + piece_size, size))});
  }
  STRAKE_RETURN_IF_ERROR(partial.Sum(ctx, parts));
  EXPECT_TRUE(SameBits(grads, expected))
      << layout << ", rank " << mesh.rank() << ", " << piece_size;
  return absl::OkStatus();
}

absl::Status OnRanks(const Layout& layout, absl::FunctionRef<absl::Status(const Mesh&)> body) {
  return RunOnThreads({.dp = 1, .pp = 1, .cp = 1, .tp = layout.num_ranks}, {.check = true}, body);
}

// The sums of integers are exact.
TEST(PartialGradientsTest, EqualTheSumOverTheHolders) {
  for (const Layout& layout : Layouts()) {
    for (const int64_t piece_size : {int64_t{1} << 20, int64_t{53}}) {
      const absl::Status status = OnRanks(layout, [&](const Mesh& mesh) {
        return SumAndCompare(layout, DType::kF32, mesh, piece_size);
      });
      EXPECT_TRUE(status.ok()) << layout << ": " << status;
    }
  }
}

TEST(PartialGradientsTest, OfEveryDType) {
  const Layout layout{4, 2, true};
  for (const DType dtype : {DType::kF64, DType::kC128}) {
    const absl::Status status = OnRanks(
        layout, [&](const Mesh& mesh) { return SumAndCompare(layout, dtype, mesh, 1 << 20); });
    EXPECT_TRUE(status.ok()) << status;
  }
}

// A range from the middle of one row of Q, K and V to the middle of another.
TEST(PartialGradientsTest, LeaveWhatIsOutsideOfTheRange) {
  const Layout layout{4, 2, true};
  const absl::Status status = OnRanks(layout, [&](const Mesh& mesh) -> absl::Status {
    const TestContext ctx(OpSet::kAuto, 1);
    const TensorParallel tp(mesh.communicator(MeshAxis::kTp), true);
    ParameterArena parameters;
    AddModel(layout, tp, &parameters);
    TestTensor grads(DType::kF32, {parameters.num_elements()});
    TestTensor expected(DType::kF32, {parameters.num_elements()});
    const ParameterRecord& qkv = parameters.records()[2];
    const int64_t k_begin = qkv.shape()[1] - layout.kv_columns();
    const ShardRange range{qkv.offset + qkv.shape()[1] + k_begin + 1,
                           qkv.offset + 5 * qkv.shape()[1] + k_begin + 2};
    FillTerms(mesh.rank(), grads);
    FillSums(mesh.rank(), layout.num_ranks, NumTerms(layout, parameters), range, expected);
    STRAKE_ASSIGN_OR_RETURN(const PartialGradients partial,
                            PartialGradients::Create(parameters, tp));
    EXPECT_EQ(PartialGradients::Count(parameters, 4, {range}),
              (PartialElements{0, 4 * layout.kv_columns() + 1}));
    STRAKE_RETURN_IF_ERROR(partial.Sum(ctx, {{range.begin, grads->Rows(range.begin, range.end)}}));
    EXPECT_TRUE(SameBits(grads, expected));
    STRAKE_RETURN_IF_ERROR(partial.Sum(ctx, {{7, grads->Rows(7, 7)}}));
    EXPECT_TRUE(SameBits(grads, expected));
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(PartialGradientsTest, TakeOneAllReduceForEachKindOfHolders) {
  for (const Layout& layout : Layouts()) {
    SCOPED_TRACE(::testing::Message() << layout);
    const bool kv_is_all = layout.kv_holders() == layout.num_ranks;
    const int64_t kv = layout.kv_holders() > 1 ? (kRows + 1) * layout.kv_columns() : 0;
    const int64_t replicated =
        layout.sequence_parallel && layout.num_ranks > 1 ? kNormSize + kBiasSize : 0;
    const PartialElements expected{.all_ranks = replicated + (kv_is_all ? kv : 0),
                                   .kv_holders = kv_is_all ? 0 : kv};
    const absl::Status status = OnRanks(layout, [&](const Mesh& mesh) -> absl::Status {
      const TestContext ctx(OpSet::kAuto, 1);
      Communicator& group = mesh.communicator(MeshAxis::kTp);
      const TensorParallel tp(group, layout.sequence_parallel);
      ParameterArena parameters;
      AddModel(layout, tp, &parameters);
      const ShardRange all{0, parameters.num_elements()};
      EXPECT_EQ(PartialGradients::Count(parameters, layout.num_ranks, {all}), expected);
      TestTensor grads(DType::kF32, {all.size()});
      FillTerms(mesh.rank(), grads);
      STRAKE_ASSIGN_OR_RETURN(const PartialGradients partial,
                              PartialGradients::Create(parameters, tp));
      STRAKE_RETURN_IF_ERROR(partial.Sum(ctx, {{0, grads}}));
      const auto entry = [](int64_t elements) {
        return CollectiveStats::Entry{elements > 0, elements * 4};
      };
      EXPECT_EQ(group.stats()[CollectiveKind::kAllReduceSum], entry(expected.all_ranks));
      EXPECT_EQ(partial.kv_communicator() != nullptr, expected.kv_holders > 0);
      if (partial.kv_communicator() != nullptr) {
        EXPECT_EQ(partial.kv_communicator()->axis(), "kv");
        EXPECT_EQ(partial.kv_communicator()->size(), layout.kv_holders());
        EXPECT_EQ(partial.kv_communicator()->stats().Total(), entry(expected.kv_holders));
      }
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
  }
}

// Rounded sums: the bits depend on the order, which all holders share.
TEST(PartialGradientsTest, HaveTheSameBitsOnAllHolders) {
  const Layout layout{6, 2, true};
  std::vector<std::vector<float>> sums(layout.num_ranks);
  std::vector<int> num_terms;
  const absl::Status status = OnRanks(layout, [&](const Mesh& mesh) -> absl::Status {
    const TestContext ctx(OpSet::kAuto, 1);
    const TensorParallel tp(mesh.communicator(MeshAxis::kTp), true);
    ParameterArena parameters;
    AddModel(layout, tp, &parameters);
    if (mesh.rank() == 0) num_terms = NumTerms(layout, parameters);
    std::vector<float>& grads = sums[mesh.rank()];
    grads.resize(parameters.num_elements());
    const Tensor tensor(grads.data(), DType::kF32, {parameters.num_elements()});
    FillNormal(tensor, mesh.rank() + 1);
    STRAKE_ASSIGN_OR_RETURN(const PartialGradients partial,
                            PartialGradients::Create(parameters, tp));
    return partial.Sum(ctx, {{0, tensor}});
  });
  ASSERT_TRUE(status.ok()) << status;
  for (size_t i = 0; i < num_terms.size(); ++i) {
    for (int rank = 1; rank < layout.num_ranks; ++rank) {
      const int first_holder = rank / num_terms[i] * num_terms[i];
      ASSERT_EQ(sums[rank][i], sums[first_holder][i]) << rank << " " << i;
      // Another group's sum differs.
      ASSERT_TRUE(first_holder == 0 || sums[rank][i] != sums[0][i]) << rank << " " << i;
    }
  }
}

TEST(PartialGradientsTest, ADryRunPlansTheStaging) {
  for (const Layout& layout : {Layout{4, 2, true}, {4, 2, false}, {4, 1, false}, {2, 2, false}}) {
    SCOPED_TRACE(::testing::Message() << layout);
    const absl::Status status = OnRanks(layout, [&](const Mesh& mesh) -> absl::Status {
      TestContext ctx(OpSet::kAuto, 1);
      const TensorParallel tp(mesh.communicator(MeshAxis::kTp), layout.sequence_parallel);
      ParameterArena parameters;
      AddModel(layout, tp, &parameters);
      STRAKE_RETURN_IF_ERROR(parameters.Allocate(DType::kF32, true));
      STRAKE_ASSIGN_OR_RETURN(const PartialGradients partial,
                              PartialGradients::Create(parameters, tp));
      STRAKE_RETURN_IF_ERROR(partial.Sum(ctx, {{0, parameters.grads()}}));

      const Mesh planned_mesh = Mesh::DryRun(mesh.sizes(), mesh.rank(), /*recorder=*/nullptr);
      const TensorParallel planned_tp(planned_mesh.communicator(MeshAxis::kTp),
                                      layout.sequence_parallel);
      ParameterArena planned;
      AddModel(layout, planned_tp, &planned);
      planned.AllocateDryRun(DType::kF32);
      STRAKE_ASSIGN_OR_RETURN(const PartialGradients planned_partial,
                              PartialGradients::Create(planned, planned_tp));
      ActivationArena plan = ActivationArena::DryRun();
      ThreadTeam team(1);
      STRAKE_RETURN_IF_ERROR(planned_partial.Sum(Context(&team, &plan), {{0, planned.grads()}}));
      EXPECT_EQ(plan.peak_bytes(), ctx.context().arena().peak_bytes());
      EXPECT_EQ(plan.peak_bytes() > 0, layout.kv_holders() > 1 || layout.sequence_parallel);
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
  }
}

TEST(PartialGradientsDeathTest, WrongShapesAreNamed) {
  ParameterArena parameters;
  AddModel({2, 1, false}, TensorParallel::Planned(0, 2), &parameters);
  const TestContext ctx;
  TestTensor grads(DType::kF32, {10});
  const Mesh mesh = Mesh::DryRun({1, 1, 1, 2}, /*rank=*/0, /*recorder=*/nullptr);
  const auto partial =
      PartialGradients::Create(parameters, TensorParallel(mesh.communicator(MeshAxis::kTp)));
  ASSERT_TRUE(partial.ok()) << partial.status();
  const int64_t past_the_end = parameters.num_elements() - 9;
  EXPECT_DEATH(partial->Sum(ctx, {{past_the_end, grads}}).IgnoreError(),
               "\\[partial_gradients\\] grads f32\\[10\\] from [0-9]+ of");
  const SegmentSlice slice{.full_rows = 1, .num_rows = 1, .num_holders = 3, .partial_grad = true};
  parameters.Add({{.name = "odd", .columns = 4, .slice = slice}}, {4}, true);
  EXPECT_DEATH((void)PartialGradients::Create(parameters, TensorParallel::Planned(0, 8)),
               "odd has 3 holders of 8 ranks");
}

}  // namespace
}  // namespace strake
