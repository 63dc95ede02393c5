#include "parallel/mesh/mesh.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/tensor/tensor.h"
#include "glog/logging.h"
#include "parallel/comm/dry_run_communicator.h"
#include "parallel/comm/single_rank_communicator.h"

namespace strake {
namespace {

constexpr const char* kGradientGroupName = "dp_cp";

}  // namespace

const char* MeshAxisName(MeshAxis axis) {
  static constexpr const char* kNames[kNumMeshAxes] = {"dp", "pp", "cp", "tp"};
  return kNames[static_cast<int>(axis)];
}

int MeshVector::operator[](MeshAxis axis) const {
  const int values[kNumMeshAxes] = {dp, pp, cp, tp};
  return values[static_cast<int>(axis)];
}

std::string MeshVector::ToString() const {
  return absl::StrCat("dp ", dp, ", pp ", pp, ", cp ", cp, ", tp ", tp);
}

int NumRanks(const MeshVector& sizes) {
  CHECK(sizes.dp > 0 && sizes.pp > 0 && sizes.cp > 0 && sizes.tp > 0)
      << "[mesh] sizes " << sizes.ToString();
  return sizes.dp * sizes.pp * sizes.cp * sizes.tp;
}

int RankOf(const MeshVector& sizes, const MeshVector& at) {
  for (int i = 0; i < kNumMeshAxes; ++i) {
    const auto axis = static_cast<MeshAxis>(i);
    CHECK(at[axis] >= 0 && at[axis] < sizes[axis])
        << "[mesh] coordinates " << at.ToString() << " in sizes " << sizes.ToString();
  }
  return ((at.dp * sizes.pp + at.pp) * sizes.cp + at.cp) * sizes.tp + at.tp;
}

MeshVector CoordinatesOf(const MeshVector& sizes, int rank) {
  CHECK(rank >= 0 && rank < NumRanks(sizes))
      << "[mesh] rank " << rank << " in sizes " << sizes.ToString();
  return {.dp = rank / sizes.tp / sizes.cp / sizes.pp,
          .pp = rank / sizes.tp / sizes.cp % sizes.pp,
          .cp = rank / sizes.tp % sizes.cp,
          .tp = rank % sizes.tp};
}

int FirstRankOfStage(const MeshVector& sizes, int stage) {
  return RankOf(sizes, {.dp = 0, .pp = stage, .cp = 0, .tp = 0});
}

int GradientGroupSize(const MeshVector& sizes) { return sizes.dp * sizes.cp; }

int GradientGroupRank(const MeshVector& sizes, const MeshVector& at) {
  return at.dp * sizes.cp + at.cp;
}

Mesh Mesh::SingleRank() {
  std::array<std::unique_ptr<Communicator>, kNumMeshAxes> communicators;
  for (auto& communicator : communicators) {
    communicator = std::make_unique<SingleRankCommunicator>();
  }
  return Mesh({1, 1, 1, 1}, 0, std::move(communicators));
}

Mesh Mesh::DryRun(const MeshVector& sizes, int rank, OpRecorder* recorder) {
  const MeshVector at = CoordinatesOf(sizes, rank);
  std::array<std::unique_ptr<Communicator>, kNumMeshAxes> communicators;
  for (int i = 0; i < kNumMeshAxes; ++i) {
    const auto axis = static_cast<MeshAxis>(i);
    communicators[i] =
        std::make_unique<DryRunCommunicator>(at[axis], sizes[axis], MeshAxisName(axis), recorder);
  }
  std::unique_ptr<Communicator> gradient_group;
  if (sizes.cp > 1) {
    gradient_group = std::make_unique<DryRunCommunicator>(
        GradientGroupRank(sizes, at), GradientGroupSize(sizes), kGradientGroupName, recorder);
  }
  return Mesh(sizes, rank, std::move(communicators), std::move(gradient_group));
}

absl::StatusOr<Mesh> Mesh::Create(const MeshVector& sizes, Communicator& world) {
  if (NumRanks(sizes) != world.size()) {
    return absl::InvalidArgumentError(absl::StrCat("[mesh] ", sizes.ToString(), " are ",
                                                   NumRanks(sizes), " ranks, but there are ",
                                                   world.size()));
  }
  // Ranks with other sizes would split into groups that do not match.
  std::vector<int32_t> all(kNumMeshAxes * world.size());
  int32_t mine[kNumMeshAxes] = {sizes.dp, sizes.pp, sizes.cp, sizes.tp};
  STRAKE_RETURN_IF_ERROR(
      world
          .AllGather(Tensor(mine, DType::kI32, {kNumMeshAxes}),
                     Tensor(all.data(), DType::kI32, {static_cast<int64_t>(all.size())}))
          .Wait()
          .status());
  if (!std::equal(mine, mine + kNumMeshAxes, all.begin())) {
    return absl::InvalidArgumentError(
        absl::StrCat("[mesh] rank ", world.rank(), " was given ", sizes.ToString(), ", but rank 0 ",
                     MeshVector{all[0], all[1], all[2], all[3]}.ToString()));
  }
  const MeshVector at = CoordinatesOf(sizes, world.rank());
  std::array<std::unique_ptr<Communicator>, kNumMeshAxes> communicators;
  for (int i = 0; i < kNumMeshAxes; ++i) {
    const auto axis = static_cast<MeshAxis>(i);
    // The ranks of a group differ in this coordinate alone: the first of them names the group.
    MeshVector first = at;
    int* const coordinates[kNumMeshAxes] = {&first.dp, &first.pp, &first.cp, &first.tp};
    *coordinates[i] = 0;
    STRAKE_ASSIGN_OR_RETURN(communicators[i],
                            world.Split(RankOf(sizes, first), at[axis], MeshAxisName(axis)));
  }
  std::unique_ptr<Communicator> gradient_group;
  if (sizes.cp > 1) {
    const int first = RankOf(sizes, {.dp = 0, .pp = at.pp, .cp = 0, .tp = at.tp});
    STRAKE_ASSIGN_OR_RETURN(gradient_group,
                            world.Split(first, GradientGroupRank(sizes, at), kGradientGroupName));
  }
  return Mesh(sizes, world.rank(), std::move(communicators), std::move(gradient_group));
}

Mesh::Mesh(const MeshVector& sizes, int rank,
           std::array<std::unique_ptr<Communicator>, kNumMeshAxes> communicators,
           std::unique_ptr<Communicator> gradient_group)
    : sizes_(sizes),
      rank_(rank),
      communicators_(std::move(communicators)),
      gradient_group_(std::move(gradient_group)) {
  const MeshVector at = coordinates();
  for (int i = 0; i < kNumMeshAxes; ++i) {
    const auto axis = static_cast<MeshAxis>(i);
    const Communicator& group = communicator(axis);
    CHECK(group.size() == sizes[axis] && group.rank() == at[axis])
        << "[mesh] the " << MeshAxisName(axis) << " communicator is rank " << group.rank() << " of "
        << group.size() << " at coordinates " << at.ToString() << " in sizes " << sizes.ToString();
  }
  const Communicator& gradients = this->gradient_group();
  CHECK((gradient_group_ != nullptr) == (sizes.cp > 1) &&
        gradients.size() == GradientGroupSize(sizes) &&
        gradients.rank() == GradientGroupRank(sizes, at))
      << "[mesh] the gradient group is rank " << gradients.rank() << " of " << gradients.size()
      << " at coordinates " << at.ToString() << " in sizes " << sizes.ToString();
}

std::vector<Communicator*> Mesh::communicators() const {
  std::vector<Communicator*> all;
  for (const auto& communicator : communicators_) all.push_back(communicator.get());
  if (gradient_group_ != nullptr) all.push_back(gradient_group_.get());
  return all;
}

}  // namespace strake
