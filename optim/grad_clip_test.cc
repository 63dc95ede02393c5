#include "optim/grad_clip.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/exact_sum.h"
#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "core/memory/parameter_arena.h"
#include "core/ops/squared_norm/squared_norm.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/comm/communicator.h"
#include "parallel/mesh/mesh.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::FillNormal;
using testing::GetElement;
using testing::SameBits;
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;

// A group whose collectives fail.
class LostRank : public Communicator {
 public:
  LostRank() : Communicator(0, 2, {}) {}
  void Abort(const absl::Status&) override {}

 protected:
  std::function<absl::Status()> Start(CollectiveCall) override {
    return [] { return absl::UnavailableError("rank 1 is gone"); };
  }
  absl::StatusOr<std::unique_ptr<Communicator>> SplitGroup(CollectiveCall,
                                                           CommunicatorOptions) override {
    return absl::UnimplementedError("not in this test");
  }
};

struct GradClip {
  double norm = 0, scale = 0;
};

absl::StatusOr<GradClip> Clip(const Context& ctx, const ParameterArena& parameters,
                              const std::vector<ArenaPart>& grads, double clip_norm,
                              absl::Span<Communicator* const> groups) {
  const TestTensor clip(DType::kF64, {2});
  STRAKE_RETURN_IF_ERROR(ClipGradNorm(ctx, parameters, grads, clip_norm, groups, clip));
  return GradClip{clip->data<double>()[0], clip->data<double>()[1]};
}

// Clips a model of one parameter on one rank.
GradClip Clip(const Tensor& grads, double clip_norm) {
  const TestContext ctx;
  ParameterArena parameters;
  parameters.Add({{.name = "x", .columns = grads.num_elements()}}, grads.shape(), true);
  return Clip(ctx, parameters, {{0, grads}}, clip_norm, {}).value();
}

TEST(GradClipTest, NormAndScaleInClosedForm) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    TestTensor grads(dtype, {100});
    FillConstant(grads, 0);
    SetElement(grads, 0, 3);
    SetElement(grads, 99, -4);
    EXPECT_EQ(Clip(grads, 1).norm, 5);
    EXPECT_EQ(Clip(grads, 1).scale, 1 / (5 + 1e-6));
    EXPECT_EQ(Clip(grads, 5).scale, 5 / (5 + 1e-6));
    EXPECT_EQ(Clip(grads, 6).scale, 1);
    EXPECT_EQ(Clip(grads, 0).scale, 1);
    EXPECT_EQ(Clip(grads, 0).norm, 5);
  }
}

TEST(GradClipTest, TheClippedGradientHasTheNorm) {
  TestTensor grads(DType::kF64, {1000});
  FillNormal(grads, 1);
  const GradClip clip = Clip(grads, 1);
  ASSERT_GT(clip.norm, 2);
  double sum = 0;
  for (int i = 0; i < 1000; ++i) {
    const double clipped = grads->data<double>()[i] * clip.scale;
    sum += clipped * clipped;
  }
  // norm / (norm + 1e-6) is below 1 by 1e-6 / norm.
  EXPECT_LT(std::sqrt(sum), 1);
  EXPECT_GT(std::sqrt(sum), 1 - 1.01e-6 / clip.norm);
}

TEST(GradClipTest, LeavesTheGradientsAlone) {
  TestTensor grads(DType::kF32, {64}), before(DType::kF32, {64});
  FillNormal(grads, 1);
  FillNormal(before, 1);
  EXPECT_LT(Clip(grads, 0.5).scale, 1);
  EXPECT_TRUE(SameBits(grads, before));
}

TEST(GradClipTest, NothingZeroAndNonFinite) {
  TestTensor none(DType::kF32, {0});
  EXPECT_EQ(Clip(none, 1).norm, 0);
  EXPECT_EQ(Clip(none, 1).scale, 1);
  TestTensor grads(DType::kF32, {2});
  FillConstant(grads, std::numeric_limits<double>::quiet_NaN());
  EXPECT_TRUE(std::isnan(Clip(grads, 1).norm));
  EXPECT_TRUE(std::isnan(Clip(grads, 1).scale));
  FillConstant(grads, std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isinf(Clip(grads, 1).norm));
  EXPECT_EQ(Clip(grads, 1).scale, 0);
}

TEST(GradClipTest, PassesTheErrorOfAGroupOn) {
  const TestContext ctx;
  ParameterArena parameters;
  parameters.Add({{.name = "x", .columns = 4}}, {4}, true);
  TestTensor grads(DType::kF32, {4});
  FillConstant(grads, 1);
  LostRank lost;
  Communicator* const groups[] = {&lost};
  EXPECT_EQ(Clip(ctx, parameters, {{0, grads}}, 2, groups).status(),
            absl::UnavailableError("rank 1 is gone"));
}

// Columns of a weight in units, heads for example: sharded over the ranks or, where there are fewer
// units than ranks, each held by several ranks.
struct Units {
  std::string name;
  int64_t number, size;

  ParameterSegment Cut(int64_t rows, int num_ranks, int rank) const {
    const int holders = number < num_ranks ? num_ranks / number : 1;
    const int64_t local = number < num_ranks ? 1 : number / num_ranks;
    return {.name = name,
            .columns = local * size,
            .slice = {.full_rows = rows,
                      .full_columns = number * size,
                      .column_begin = rank / holders * local * size,
                      .num_rows = rows,
                      .num_holders = holders,
                      .owner = rank % holders == 0}};
  }
};

void AddColumns(const std::vector<Units>& units, int64_t rows, int num_ranks, int rank,
                ParameterArena* arena) {
  std::vector<ParameterSegment> segments;
  int64_t columns = 0;
  for (const Units& unit : units) {
    columns += segments.emplace_back(unit.Cut(rows, num_ranks, rank)).columns;
  }
  arena->Add(std::move(segments), rows == 1 ? Shape{columns} : Shape{rows, columns}, true);
}

// 11 rows, sharded over the ranks and padded.
void AddTable(int num_ranks, int rank, ParameterArena* arena) {
  const int64_t held = (11 + num_ranks - 1) / num_ranks, begin = std::min(11L, rank * held);
  const SegmentSlice slice{.full_rows = 11,
                           .full_columns = 3,
                           .row_begin = begin,
                           .num_rows = std::min(held, 11 - begin)};
  arena->Add({{.name = "table", .columns = 3, .slice = slice}}, {held, 3}, true);
}

// Adds the part of a model that rank `rank` holds; with one rank, all of it.
void AddModel(int num_kv_heads, int num_ranks, int rank, ParameterArena* arena) {
  AddTable(num_ranks, rank, arena);
  AddColumns({{"norm", 1, 70}}, 1, num_ranks, rank, arena);
  const Units q{"q", 24, 3}, k{"k", num_kv_heads, 5}, v{"v", num_kv_heads, 5};
  AddColumns({q, k, v}, 7, num_ranks, rank, arena);
  AddColumns({{"qb", 24, 3}, {"kb", num_kv_heads, 5}}, 1, num_ranks, rank, arena);
  AddColumns({{"up", 24, 1}}, 4, num_ranks, rank, arena);
  AddColumns({{"last_norm", 1, 90}}, 1, num_ranks, rank, arena);
}

// Sets the gradients to integers that depend only on the place in the whole tensor.
void SetGradients(ParameterArena* arena) {
  ASSERT_TRUE(arena->Allocate(DType::kF32, true).ok());
  for (const ParameterRecord& record : arena->records()) {
    float* grad = record.parameter.grad.data<float>();
    const int64_t rows = record.num_elements() / record.shape().back();
    for (int64_t row = 0; row < rows; ++row) {
      for (const auto& [name, columns, transposed, slice] : record.segments) {
        for (int64_t column = 0; column < columns; ++column, ++grad) {
          if (row >= slice.num_rows) continue;
          const int64_t place = (slice.row_begin + row) * slice.full_columns + slice.column_begin;
          *grad = static_cast<float>((place + column) * 7 % 17 - name.size());
        }
      }
    }
  }
}

double SumOfSquares(const Tensor& x) {
  double sum = 0;
  for (int64_t i = 0; i < x.num_elements(); ++i) sum += std::norm(GetElement(x, i));
  return sum;
}

double FullNorm(int num_kv_heads) {
  ParameterArena full;
  AddModel(num_kv_heads, 1, 0, &full);
  SetGradients(&full);
  return std::sqrt(SumOfSquares(full.grads()));
}

TEST(GradClipTest, OneRankOwnsAllAndSumsInOneRun) {
  const TestContext ctx;
  ParameterArena parameters;
  for (int i = 0; i < 50; ++i) {
    parameters.Add({{.name = "x", .columns = 1001}}, {1001}, true);
  }
  TestTensor grads(DType::kF32, {parameters.num_elements()});
  FillNormal(grads, 1);
  for (const ShardRange range :
       {ShardRange{0, parameters.num_elements()}, {64, 40000}, {128, 128}}) {
    const TestTensor sum(DType::kI64, {kExactSumLimbs});
    FillConstant(sum, 0);
    const Tensor part = grads->Rows(range.begin, range.end);
    ASSERT_TRUE(SquaredNormForward(ctx, part, sum).ok());
    EXPECT_EQ(Clip(ctx, parameters, {{range.begin, part}}, 1, {})->norm,
              std::sqrt(ExactSumToDouble(sum->data<int64_t>())));
  }
}

// Parameters of a rank of four, some of which it shares with others and does not own, or owns in
// part: whole ones, of ragged sizes, and columns beside columns.
void AddMixed(int i, ParameterArena* arena) {
  switch (i % 4) {
    case 0:
      return AddColumns({{"q", 24, 3}, {"k", 1, 5}, {"v", 1, 5}}, 37, 4, 1, arena);
    case 1:
      return AddColumns({{"norm", 1, 70}}, 1, 4, 1, arena);
    case 2:
      return AddColumns({{"up", 24, 11}}, 13, 4, 1, arena);
    default:
      return AddColumns({{"out", 1, 331}, {"gate", 8, 7}}, 3, 4, 1, arena);
  }
}

// Adds parameters in an order, with normal gradients that go with the parameter.
void AddMixedModel(const std::vector<int>& order, ParameterArena* arena) {
  for (const int i : order) AddMixed(i, arena);
  ASSERT_TRUE(arena->Allocate(DType::kF32, true).ok());
  for (size_t place = 0; place < order.size(); ++place) {
    FillNormal(arena->records()[place].parameter.grad, order[place], 1e-3);
  }
}

using Limbs = std::vector<int64_t>;

// A group whose sum is that of its rank, which it keeps. It shows units that differ, where a norm's
// rounding would hide them.
class KeepingGroup : public LostRank {
 public:
  const Limbs& limbs() const { return limbs_; }

 protected:
  std::function<absl::Status()> Start(CollectiveCall call) override {
    EXPECT_EQ(call.dtype, DType::kI64);
    const auto* sum = static_cast<const int64_t*>(call.output);
    limbs_.assign(sum, sum + call.count);
    return nullptr;
  }

 private:
  Limbs limbs_;
};

// total += the rank's part of the sum of squares.
void AddRank(const ParameterArena& parameters, const std::vector<ArenaPart>& parts, int num_threads,
             Limbs* total) {
  const TestContext ctx(OpSet::kAuto, num_threads);
  KeepingGroup group;
  Communicator* const groups[] = {&group};
  const auto clip = Clip(ctx, parameters, parts, 1, groups);
  ASSERT_TRUE(clip.ok()) << clip.status();
  ASSERT_EQ(group.limbs().size(), kExactSumLimbs);
  EXPECT_EQ(clip->norm, std::sqrt(ExactSumToDouble(group.limbs().data())));
  for (int k = 0; k < kExactSumLimbs; ++k) (*total)[k] += group.limbs()[k];
  CarryExactSum(total->data());
}

Limbs SumOfMixed(const std::vector<int>& order) {
  ParameterArena parameters;
  AddMixedModel(order, &parameters);
  Limbs total(kExactSumLimbs);
  AddRank(parameters, {{0, parameters.grads()}}, 1, &total);
  return total;
}

TEST(GradClipTest, TheSumHasTheSameBitsInAnyOrderOfParameters) {
  std::vector<int> order = {0, 1, 2, 3, 4, 5, 6, 7};
  const Limbs sum = SumOfMixed(order);
  EXPECT_GT(ExactSumToDouble(sum.data()), 0);
  std::reverse(order.begin(), order.end());
  EXPECT_EQ(SumOfMixed(order), sum);
  EXPECT_EQ(SumOfMixed({3, 0, 6, 1, 4, 7, 2, 5}), sum);
}

// The parts are runs of `units` units, which go to the ranks in turn, as the shards of buckets do.
// They cut rows of owned and other columns.
TEST(GradClipTest, TheSumHasTheSameBitsInAnyParts) {
  const std::vector<int> order = {0, 1, 2, 3, 4, 5, 6, 7};
  const Limbs sum = SumOfMixed(order);
  ParameterArena parameters;
  AddMixedModel(order, &parameters);
  const int64_t n = parameters.num_elements();
  for (const int num_ranks : {1, 2, 3, 4}) {
    for (const int64_t units : {1, 2, 3, 5, 17, 1000}) {
      std::vector<std::vector<ArenaPart>> parts(num_ranks);
      for (int64_t at = 0; at < n; at += 64 * units) {
        parts[at / (64 * units) % num_ranks].push_back(
            {at, parameters.grads().Rows(at, std::min(at + 64 * units, n))});
      }
      Limbs total(kExactSumLimbs);
      for (int rank = 0; rank < num_ranks; ++rank) {
        AddRank(parameters, parts[rank], 1 + rank, &total);
      }
      EXPECT_EQ(total, sum) << num_ranks << " ranks, " << units << " units";
    }
  }
}

// Pipeline stages hold them so: each rank has an arena of its own.
TEST(GradClipTest, TheSumHasTheSameBitsInSeveralArenas) {
  const std::vector<int> order = {0, 1, 2, 3, 4, 5, 6, 7};
  for (const int num_ranks : {2, 3, 4, 8}) {
    Limbs total(kExactSumLimbs);
    for (int rank = 0; rank < num_ranks; ++rank) {
      ParameterArena parameters;
      AddMixedModel(
          {order.begin() + rank * 8 / num_ranks, order.begin() + (rank + 1) * 8 / num_ranks},
          &parameters);
      AddRank(parameters, {{0, parameters.grads()}}, 1, &total);
    }
    EXPECT_EQ(total, SumOfMixed(order)) << num_ranks;
  }
}

struct Case {
  int num_ranks, num_kv_heads;
};
constexpr Case kCases[] = {{1, 1}, {2, 1}, {2, 2}, {3, 1}, {3, 3}, {4, 1}, {4, 2},
                           {6, 1}, {6, 2}, {6, 3}, {8, 1}, {8, 2}, {8, 4}};

// Squares and sums of integers are exact: the norms are equal, not close.
TEST(GradClipTest, CountsWhatSeveralRanksHoldOnce) {
  for (const auto& [num_ranks, num_kv_heads] : kCases) {
    SCOPED_TRACE(::testing::Message() << num_ranks << " ranks, " << num_kv_heads << " kv heads");
    const double full = FullNorm(num_kv_heads);
    const absl::Status status = RunOnThreads(
        {.dp = 1, .pp = 1, .cp = 1, .tp = num_ranks}, {.check = true}, [&](const Mesh& mesh) {
          const TestContext ctx(OpSet::kAuto, 1);
          ParameterArena parameters;
          AddModel(num_kv_heads, num_ranks, mesh.rank(), &parameters);
          SetGradients(&parameters);
          Communicator* const groups[] = {&mesh.communicator(MeshAxis::kTp)};
          STRAKE_ASSIGN_OR_RETURN(const GradClip clip,
                                  Clip(ctx, parameters, {{0, parameters.grads()}}, 1, groups));
          EXPECT_EQ(clip.norm, full);
          EXPECT_EQ(clip.scale, 1 / (full + 1e-6));
          double all = SumOfSquares(parameters.grads());
          STRAKE_RETURN_IF_ERROR(
              groups[0]->AllReduceSum(Tensor(&all, DType::kF64, {1})).Wait().status());
          // If each rank counted all elements that it holds, the norm would be this large.
          EXPECT_TRUE(num_ranks == 1 || std::sqrt(all) > 1.1 * full)
              << std::sqrt(all) << " " << full;
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
  }
}

// Rank 0 has the ends, and rank 1 what is between them.
TEST(GradClipTest, DataParallelRanksHavePartsThatCutAnyUnits) {
  const double full = FullNorm(2);
  const absl::Status status =
      RunOnThreads({.dp = 2, .pp = 1, .cp = 1, .tp = 4}, {.check = true}, [&](const Mesh& mesh) {
        const TestContext ctx(OpSet::kAuto, 1);
        ParameterArena parameters;
        AddModel(2, 4, mesh.coordinates().tp, &parameters);
        SetGradients(&parameters);
        Communicator* const groups[] = {&mesh.communicator(MeshAxis::kTp),
                                        &mesh.communicator(MeshAxis::kDp)};
        const int64_t n = parameters.num_elements();
        const auto part = [&](int64_t begin, int64_t end) {
          return ArenaPart{begin, parameters.grads().Rows(begin, end)};
        };
        for (int64_t cut = 0; cut <= n; cut += 64) {
          const int64_t second = cut + (n - cut) / 192 * 64;
          const std::vector<ArenaPart> parts = mesh.coordinates().dp == 0
                                                   ? std::vector{part(0, cut), part(second, n)}
                                                   : std::vector{part(cut, second)};
          STRAKE_ASSIGN_OR_RETURN(const GradClip clip, Clip(ctx, parameters, parts, 1, groups));
          EXPECT_EQ(clip.norm, full) << cut;
        }
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(GradClipTest, ADryRunAllocatesTheScratchAndAsksNobody) {
  const TestContext ctx;
  ParameterArena parameters, planned;
  AddModel(1, 2, 1, &parameters);
  SetGradients(&parameters);
  AddModel(1, 2, 1, &planned);
  planned.AllocateDryRun(DType::kF32);
  {
    const ActivationScope scope(static_cast<const Context&>(ctx).arena());
    const Tensor clip = static_cast<const Context&>(ctx).arena().Allocate(DType::kF64, {2});
    ASSERT_TRUE(ClipGradNorm(ctx, parameters, {{0, parameters.grads()}}, 1, {}, clip).ok());
  }
  ActivationArena plan = ActivationArena::DryRun();
  ThreadTeam team(1);
  LostRank lost;
  Communicator* const groups[] = {&lost};
  {
    const ActivationScope scope(plan);
    const Tensor clip = plan.Allocate(DType::kF64, {2});
    EXPECT_TRUE(
        ClipGradNorm(Context(&team, &plan), planned, {{0, planned.grads()}}, 1, groups, clip).ok());
  }
  EXPECT_EQ(plan.peak_bytes(), static_cast<const Context&>(ctx).arena().peak_bytes());
  EXPECT_GE(plan.peak_bytes(), 7 * 36 * sizeof(float));
}

TEST(GradClipDeathTest, WrongInputsAreNamed) {
  TestTensor grads(DType::kC128, {4});
  EXPECT_DEATH(Clip(grads, 1), "\\[grad_clip\\] grads c128\\[4\\]");
  TestTensor f32(DType::kF32, {4});
  EXPECT_DEATH(Clip(f32, -1), "\\[clip_scale\\] clip_norm");
  const TestContext ctx;
  ParameterArena parameters;
  parameters.Add({{.name = "x", .columns = 4}}, {4}, true);
  EXPECT_DEATH(Clip(ctx, parameters, {{32, f32}}, 1, {}).status().IgnoreError(),
               "\\[grad_clip\\] grads f32\\[4\\] from 32 of 64 elements");
}

}  // namespace
}  // namespace strake
