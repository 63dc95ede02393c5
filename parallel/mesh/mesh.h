// Mesh: the ranks of a run, laid out along the axes that they parallelise.
//
//   rank = ((dp * PP + pp) * CP + cp) * TP + tp
//
// Sizes in capitals, coordinates in small letters: dp data, pp pipeline, cp context and tp tensor
// parallelism. tp is innermost: its ranks talk most and should be neighbours.
#ifndef STRAKE_PARALLEL_MESH_MESH_H_
#define STRAKE_PARALLEL_MESH_MESH_H_

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/cuda/stream.h"
#include "core/device/op_call.h"
#include "parallel/comm/communicator.h"

namespace strake {

// Outermost first.
enum class MeshAxis { kDp, kPp, kCp, kTp };
inline constexpr MeshAxis kMeshAxes[] = {MeshAxis::kDp, MeshAxis::kPp, MeshAxis::kCp,
                                         MeshAxis::kTp};
inline constexpr int kNumMeshAxes = 4;

// "dp", "pp", "cp", "tp".
const char* MeshAxisName(MeshAxis axis);

// One number per axis: the sizes of a mesh, or the coordinates of a rank.
struct MeshVector {
  int dp, pp, cp, tp;

  int operator[](MeshAxis axis) const;
  bool operator==(const MeshVector&) const = default;
  // "dp 2, pp 1, cp 1, tp 4".
  std::string ToString() const;
};

// Implement the formula above and its inverse. CHECK that sizes are positive and that the rank or
// the coordinates lie within them.
int NumRanks(const MeshVector& sizes);
int RankOf(const MeshVector& sizes, const MeshVector& coordinates);
MeshVector CoordinatesOf(const MeshVector& sizes, int rank);
// The rank of a pipeline stage whose other coordinates are 0.
int FirstRankOfStage(const MeshVector& sizes, int stage);
// Mesh::gradient_group()'s size, and the rank in it of the coordinates.
int GradientGroupSize(const MeshVector& sizes);
int GradientGroupRank(const MeshVector& sizes, const MeshVector& coordinates);

// One rank's view of the mesh.
class Mesh {
 public:
  // One rank, every axis of size 1.
  static Mesh SingleRank();

  // Makes the mesh of rank `rank` for dry runs alone: its groups record into `recorder`, which may
  // be null and must outlive the mesh.
  static Mesh DryRun(const MeshVector& sizes, int rank, OpRecorder* recorder);

  // Splits `world`, whose ranks become the mesh's, once per group. Every rank of `world` calls it;
  // `world` may be destroyed afterwards. InvalidArgument, with both numbers, where the number of
  // its ranks is not the product of the sizes, and where a rank was given other sizes than rank 0;
  // else the error of a collective.
  static absl::StatusOr<Mesh> Create(const MeshVector& sizes, Communicator& world);

  // `communicators`, by MeshAxis: each joins the ranks that differ from this one in that coordinate
  // alone, in its order. `gradient_group` is null with one cp rank. CHECKs that their ranks and
  // sizes agree with the mesh.
  Mesh(const MeshVector& sizes, int rank,
       std::array<std::unique_ptr<Communicator>, kNumMeshAxes> communicators,
       std::unique_ptr<Communicator> gradient_group = nullptr);

  const MeshVector& sizes() const { return sizes_; }
  int num_ranks() const { return NumRanks(sizes_); }
  int rank() const { return rank_; }
  MeshVector coordinates() const { return CoordinatesOf(sizes_, rank_); }
  Communicator& communicator(MeshAxis axis) const {
    return *communicators_[static_cast<int>(axis)];
  }

  // The ranks that hold the same weights and sum their gradients: they differ in dp and cp alone,
  // and are in the order dp * CP + cp. With one cp rank it is the dp communicator, else a group of
  // its own, "dp_cp".
  Communicator& gradient_group() const {
    return gradient_group_ != nullptr ? *gradient_group_ : communicator(MeshAxis::kDp);
  }

  // All groups, each once: those of the axes, then the gradient group.
  std::vector<Communicator*> communicators() const;

  // Binds the stream to every group, as Communicator::BindCudaStream().
  void BindCudaStream(CudaStream stream) const {
    for (Communicator* communicator : communicators()) communicator->BindCudaStream(stream);
  }

 private:
  MeshVector sizes_;
  int rank_;
  std::array<std::unique_ptr<Communicator>, kNumMeshAxes> communicators_;
  std::unique_ptr<Communicator> gradient_group_;  // of several cp ranks
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_MESH_MESH_H_
