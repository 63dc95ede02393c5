#include "parallel/mesh/mesh.h"

#include <array>
#include <memory>
#include <utility>

#include "gtest/gtest.h"
#include "parallel/comm/dry_run_communicator.h"
#include "parallel/comm/single_rank_communicator.h"

namespace strake {
namespace {

TEST(MeshTest, TpIsInnermostAndDpOutermost) {
  const MeshVector sizes{.dp = 2, .pp = 3, .cp = 4, .tp = 5};
  EXPECT_EQ(NumRanks(sizes), 120);
  EXPECT_EQ(RankOf(sizes, {0, 0, 0, 1}), 1);
  EXPECT_EQ(RankOf(sizes, {0, 0, 1, 0}), 5);
  EXPECT_EQ(RankOf(sizes, {0, 1, 0, 0}), 20);
  EXPECT_EQ(RankOf(sizes, {1, 0, 0, 0}), 60);
  EXPECT_EQ(FirstRankOfStage(sizes, 0), 0);
  EXPECT_EQ(FirstRankOfStage(sizes, 2), 40);
}

TEST(MeshTest, CoordinatesInvertRanks) {
  for (const MeshVector& sizes :
       {MeshVector{2, 3, 4, 5}, MeshVector{1, 1, 1, 8}, MeshVector{3, 1, 1, 1}}) {
    for (int rank = 0; rank < NumRanks(sizes); ++rank) {
      EXPECT_EQ(RankOf(sizes, CoordinatesOf(sizes, rank)), rank) << sizes.ToString();
    }
  }
}

TEST(MeshTest, GradientGroupOfRanksCountsDpAndCp) {
  const MeshVector sizes{.dp = 2, .pp = 3, .cp = 4, .tp = 5};
  EXPECT_EQ(GradientGroupSize(sizes), 8);
  EXPECT_EQ(GradientGroupRank(sizes, {0, 2, 3, 4}), 3);
  EXPECT_EQ(GradientGroupRank(sizes, {1, 2, 0, 4}), 4);
  EXPECT_EQ(GradientGroupRank(sizes, {1, 0, 3, 0}), 7);
}

TEST(MeshTest, DryRunHasTheGradientGroup) {
  const Mesh mesh = Mesh::DryRun({.dp = 2, .pp = 1, .cp = 3, .tp = 2}, 11, /*recorder=*/nullptr);
  EXPECT_EQ(mesh.gradient_group().size(), 6);
  EXPECT_EQ(mesh.gradient_group().rank(), 5);
  EXPECT_EQ(mesh.gradient_group().axis(), "dp_cp");
  EXPECT_TRUE(mesh.gradient_group().dry_run());
  EXPECT_EQ(mesh.communicators().size(), kNumMeshAxes + 1);
  const Mesh without = Mesh::DryRun({.dp = 2, .pp = 1, .cp = 1, .tp = 2}, 3, /*recorder=*/nullptr);
  EXPECT_EQ(&without.gradient_group(), &without.communicator(MeshAxis::kDp));
  EXPECT_EQ(without.communicators().size(), kNumMeshAxes);
}

TEST(MeshTest, SingleRank) {
  const Mesh mesh = Mesh::SingleRank();
  EXPECT_EQ(mesh.num_ranks(), 1);
  EXPECT_EQ(mesh.rank(), 0);
  EXPECT_EQ(mesh.sizes(), (MeshVector{1, 1, 1, 1}));
  EXPECT_EQ(mesh.coordinates(), (MeshVector{0, 0, 0, 0}));
  for (const MeshAxis axis : kMeshAxes) {
    EXPECT_EQ(mesh.communicator(axis).size(), 1);
  }
}

TEST(MeshTest, SizesMustMultiplyToTheRanks) {
  SingleRankCommunicator one;
  EXPECT_EQ(Mesh::Create({2, 1, 1, 3}, one).status(),
            absl::InvalidArgumentError("[mesh] dp 2, pp 1, cp 1, tp 3 are 6 ranks, but there are "
                                       "1"));
}

TEST(MeshDeathTest, RanksAndCoordinatesLieInTheMesh) {
  const MeshVector sizes{1, 1, 1, 2};
  EXPECT_DEATH(CoordinatesOf(sizes, 2), "rank 2 in sizes dp 1, pp 1, cp 1, tp 2");
  EXPECT_DEATH(RankOf(sizes, {0, 0, 0, -1}), "coordinates dp 0, pp 0, cp 0, tp -1");
  EXPECT_DEATH(NumRanks({1, 0, 1, 1}), "sizes dp 1, pp 0");
}

TEST(MeshDeathTest, CommunicatorsAgreeWithTheSizes) {
  std::array<std::unique_ptr<Communicator>, kNumMeshAxes> communicators;
  for (auto& communicator : communicators) {
    communicator = std::make_unique<SingleRankCommunicator>();
  }
  EXPECT_DEATH(Mesh({1, 1, 1, 2}, 1, std::move(communicators)),
               "the tp communicator is rank 0 of 1 at coordinates dp 0, pp 0, cp 0, tp 1");
}

TEST(MeshDeathTest, SeveralCpRanksHaveAGradientGroup) {
  std::array<std::unique_ptr<Communicator>, kNumMeshAxes> communicators;
  for (int i = 0; i < kNumMeshAxes; ++i) {
    communicators[i] = std::make_unique<DryRunCommunicator>(
        0, static_cast<MeshAxis>(i) == MeshAxis::kCp ? 2 : 1, "axis", /*recorder=*/nullptr);
  }
  EXPECT_DEATH(Mesh({1, 1, 2, 1}, 0, std::move(communicators)),
               "the gradient group is rank 0 of 1 at coordinates dp 0, pp 0, cp 0, tp 0 in sizes "
               "dp 1, pp 1, cp 2, tp 1");
}

}  // namespace
}  // namespace strake
