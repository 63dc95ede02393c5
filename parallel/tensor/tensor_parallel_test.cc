#include "parallel/tensor/tensor_parallel.h"

#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/op_profile.h"
#include "core/base/status_macros.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/tensor/layer_test_util.h"

namespace strake {
namespace {

using testing::ExpectCollectives;
using testing::FillConstant;
using testing::FillSmallIntegers;
using testing::kRankCounts;
using testing::LocalTokens;
using testing::OnRanks;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

using Kind = CollectiveKind;

constexpr int64_t kTokens = 24, kChannels = 4;
constexpr int64_t kBytes = kTokens * kChannels * sizeof(float);

TEST(TensorParallelTest, OneRankHasEveryTokenAndCommunicatesNothing) {
  const TestContext test;
  const Context& ctx = test;
  const TensorParallel tp;
  EXPECT_EQ(tp.rank(), 0);
  EXPECT_EQ(tp.size(), 1);
  EXPECT_EQ(tp.NumLocalTokens(7), 7);
  EXPECT_EQ(tp.FirstLocalToken(7), 0);
  // Every function without a communicator.
  TestTensor x(DType::kF32, {7, 2});
  FillSmallIntegers(x, 1);
  EXPECT_EQ(tp.GatherTokens(ctx, x).value().raw(), x->raw());
  EXPECT_EQ(tp.SumTokens(ctx, x, x).Wait().value().raw(), x->raw());
  EXPECT_EQ(tp.SumTokensInPlace(ctx, x).Wait().value().raw(), x->raw());
  EXPECT_TRUE(tp.AllReduceSum(ctx, x).ok());
  EXPECT_TRUE(tp.AllReduceMax(ctx, x).ok());
  EXPECT_EQ(ctx.arena().used_bytes(), 0);
  EXPECT_FALSE(TensorParallel::Planned(0, 1, true).sequence_parallel());
}

TEST(TensorParallelTest, TokensLieInRankOrder) {
  for (const int t : kRankCounts) {
    for (int rank = 0; rank < t; ++rank) {
      const TensorParallel tp = TensorParallel::Planned(rank, t, true);
      EXPECT_EQ(tp.sequence_parallel(), t > 1);
      EXPECT_EQ(tp.NumLocalTokens(kTokens), kTokens / t);
      EXPECT_EQ(tp.FirstLocalToken(kTokens), rank * kTokens / t);
      const TensorParallel plain = tp.WithoutSequenceParallelism();
      EXPECT_EQ(plain.rank(), rank);
      EXPECT_EQ(plain.size(), t);
      EXPECT_EQ(plain.NumLocalTokens(7), 7);
      EXPECT_EQ(plain.FirstLocalToken(7), 0);
    }
  }
}

TEST(TensorParallelTest, GathersTokens) {
  TestTensor x(DType::kF32, {kTokens, kChannels});
  FillSmallIntegers(x, 1);
  for (const int t : kRankCounts) {
    for (const bool sp : {false, true}) {
      OnRanks(t, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
        const TensorParallel tp(mesh.communicator(MeshAxis::kTp), sp);
        const Tensor local = LocalTokens(x, mesh, sp);
        STRAKE_ASSIGN_OR_RETURN(const Tensor full, tp.GatherTokens(ctx, local));
        EXPECT_TRUE(SameBits(full, x));
        EXPECT_EQ(full.raw() == local.raw(), !tp.sequence_parallel());
        if (sp) {
          ExpectCollectives(mesh, {{Kind::kAllGather, 1, kBytes}});
        } else {
          ExpectCollectives(mesh, {});
        }
        STRAKE_ASSIGN_OR_RETURN(const Tensor empty, tp.GatherTokens(ctx, x->Rows(0, 0)));
        EXPECT_EQ(empty.shape(), (Shape{0, kChannels}));
        return absl::OkStatus();
      });
    }
  }
}

// Rank r's element i is (r + 1) i: the sum is T (T + 1) / 2 i.
TEST(TensorParallelTest, SumsTokens) {
  for (const int t : kRankCounts) {
    for (const bool sp : {false, true}) {
      OnRanks(t, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
        const TensorParallel tp(mesh.communicator(MeshAxis::kTp), sp);
        const Kind kind = sp ? Kind::kReduceScatterSum : Kind::kAllReduceSum;
        TestTensor x(DType::kF32, {kTokens, kChannels}), y(DType::kF32, {kTokens / t, kChannels});
        TestTensor expected(DType::kF32, x->shape());
        for (int64_t i = 0; i < x->num_elements(); ++i) {
          x->data<float>()[i] = (tp.rank() + 1) * i;
          expected->data<float>()[i] = t * (t + 1) / 2 * i;
        }
        const Tensor expected_local = LocalTokens(expected, mesh, sp);
        if (tp.sequence_parallel()) {
          STRAKE_ASSIGN_OR_RETURN(const Tensor sum, tp.SumTokens(ctx, x, y).Wait());
          EXPECT_EQ(sum.raw(), y->raw());
          EXPECT_TRUE(SameBits(sum, expected_local));
          ExpectCollectives(mesh, {{kind, 1, kBytes}});
        }
        STRAKE_ASSIGN_OR_RETURN(const Tensor sum, tp.SumTokensInPlace(ctx, x).Wait());
        EXPECT_TRUE(SameBits(sum, expected_local));
        EXPECT_EQ(sum.raw(), x->Rows(tp.FirstLocalToken(kTokens), kTokens).raw());
        ExpectCollectives(mesh, {{kind, 1, kBytes}});
        return tp.SumTokensInPlace(ctx, x->Rows(0, 0)).Wait().status();
      });
    }
  }
}

TEST(TensorParallelTest, AllReducesWhateverTheLayoutOfTokens) {
  for (const bool sp : {false, true}) {
    OnRanks(4, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
      const TensorParallel tp(mesh.communicator(MeshAxis::kTp), sp);
      // -infinity is the contribution of a rank without tokens to a maximum.
      TestTensor sum(DType::kF32, {3}), max(DType::kF32, {3});
      FillConstant(sum, tp.rank());
      FillConstant(max, tp.rank() == 2 ? -5 : -std::numeric_limits<double>::infinity());
      STRAKE_RETURN_IF_ERROR(tp.AllReduceSum(ctx, sum));
      STRAKE_RETURN_IF_ERROR(tp.AllReduceMax(ctx, max));
      for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(sum->data<float>()[i], 6);
        EXPECT_EQ(max->data<float>()[i], -5);
      }
      ExpectCollectives(mesh, {{Kind::kAllReduceSum, 1, 12}, {Kind::kAllReduceMax, 1, 12}});
      return absl::OkStatus();
    });
  }
}

TEST(TensorParallelTest, ADryRunMovesNothing) {
  OnRanks(2, OpSet::kAuto, [&](const Mesh& mesh, TestContext&) -> absl::Status {
    ThreadTeam team(1);
    ActivationArena plan = ActivationArena::DryRun();
    const Context ctx(&team, &plan);
    const TensorParallel tp(mesh.communicator(MeshAxis::kTp), true);
    const Tensor x = plan.Allocate(DType::kF32, {kTokens, kChannels});
    EXPECT_EQ(tp.GatherTokens(ctx, x).value().shape(), (Shape{2 * kTokens, kChannels}));
    EXPECT_EQ(tp.SumTokensInPlace(ctx, x).Wait().value().shape(), (Shape{kTokens / 2, kChannels}));
    STRAKE_RETURN_IF_ERROR(tp.AllReduceSum(ctx, x));
    STRAKE_RETURN_IF_ERROR(tp.AllReduceMax(ctx, x));
    ExpectCollectives(mesh, {});
    EXPECT_EQ(plan.used_bytes(), 3 * kBytes);
    return absl::OkStatus();
  });
}

TEST(TensorParallelTest, TheProfileCountsTheWait) {
  OnRanks(2, OpSet::kAuto, [&](const Mesh& mesh, TestContext& test) -> absl::Status {
    OpProfile profile;
    test.context().set_profile(&profile);
    test.context().set_pass(Pass::kBackward);
    const TensorParallel tp(mesh.communicator(MeshAxis::kTp));
    TestTensor x(DType::kF32, {2, 3});
    FillConstant(x, 1);
    Pending<Tensor> pending = tp.SumTokensInPlace(test, x);
    EXPECT_TRUE(profile.entries().empty());
    STRAKE_ASSIGN_OR_RETURN(const Tensor sum, pending.Wait());
    EXPECT_EQ(sum.data<float>()[0], 2);
    EXPECT_EQ(profile.entries().size(), 1);
    EXPECT_EQ(profile.entries().at({"all_reduce", Pass::kBackward}).calls, 1);
    return absl::OkStatus();
  });
}

TEST(TensorParallelTest, AnotherRanksErrorIsReturned) {
  OnRanks(2, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
    const TensorParallel tp(mesh.communicator(MeshAxis::kTp), true);
    const absl::Status cause = absl::DataLossError("a bad disk");
    if (tp.rank() == 1) {
      tp.communicator().Abort(cause);
      return absl::OkStatus();
    }
    TestTensor x(DType::kF32, {2, 1}), sum(DType::kF32, {2});
    FillConstant(x, 1);
    FillConstant(sum, 1);
    const absl::Status errors[] = {tp.GatherTokens(ctx, x).status(),
                                   tp.SumTokensInPlace(ctx, x).Wait().status(),
                                   tp.AllReduceSum(ctx, sum), tp.AllReduceMax(ctx, sum)};
    for (const absl::Status& error : errors) {
      EXPECT_NE(error.message().find("a bad disk"), absl::string_view::npos) << error;
    }
    return absl::OkStatus();
  });
}

TEST(TensorParallelTest, ErrorsNameThePlaceOfTheCall) {
  using Call = absl::Status (*)(const TensorParallel& tp, const Context& ctx, const Tensor& x);
  constexpr Call kCalls[] = {
      [](const auto& tp, const auto& ctx, const auto& x) {
        return tp.GatherTokens(ctx, x).status();
      },
      [](const auto& tp, const auto& ctx, const auto& x) {
        return tp.SumTokensInPlace(ctx, x).Wait().status();
      },
      [](const auto& tp, const auto& ctx, const auto& x) {
        return tp.WithoutSequenceParallelism().SumTokens(ctx, x, x).Wait().status();
      },
      [](const auto& tp, const auto& ctx, const auto& x) {
        return tp.GatherColumns(ctx, x.Rows(0, 1)).status();
      },
      [](const auto& tp, const auto& ctx, const auto& x) { return tp.AllReduceSum(ctx, x); },
      [](const auto& tp, const auto& ctx, const auto& x) { return tp.AllReduceMax(ctx, x); },
  };
  for (const Call& call : kCalls) {
    OnRanks(2, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
      const TensorParallel tp(mesh.communicator(MeshAxis::kTp), true);
      TestTensor x(DType::kF32, {2, 1});
      FillConstant(x, 1);
      // Ranks that disagree get an error with both calls.
      const absl::Status status = tp.rank() == 0 ? call(tp, ctx, x) : tp.communicator().Barrier();
      const std::string message(status.message());
      const std::string here = absl::StrCat(" at ", __FILE__, ":");
      const size_t first = message.find(here);
      EXPECT_NE(first, std::string::npos) << message;
      EXPECT_NE(message.find(here, first + 1), std::string::npos) << message;
      return absl::OkStatus();
    });
  }
}

TEST(TensorParallelDeathTest, Misuse) {
  const TestContext ctx;
  EXPECT_DEATH(TensorParallel::Planned(2, 2), "rank 2 of 2");
  EXPECT_DEATH(TensorParallel::Planned(1, 2).communicator(), "rank 1 of 2 was made for dry runs");
  EXPECT_DEATH(TensorParallel::Planned(0, 2, true).NumLocalTokens(7),
               "7 tokens over 2 sequence-parallel ranks");
  // On one rank too, where the sum would not detect it.
  TestTensor x(DType::kF32, {2, 3}), y(DType::kF32, {2, 3});
  EXPECT_DEATH((void)TensorParallel().SumTokens(ctx, x, y),
               "an all-reduce is in place: x f32\\[2, 3\\], y f32\\[2, 3\\]");
}

}  // namespace
}  // namespace strake
