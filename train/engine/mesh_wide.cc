#include "train/engine/mesh_wide.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "core/base/status_macros.h"
#include "core/tensor/tensor.h"

namespace strake {
namespace {

constexpr MeshAxis kAxes[] = {MeshAxis::kDp, MeshAxis::kPp, MeshAxis::kCp, MeshAxis::kTp};

// Broadcasts along each axis from its first rank. Rank 0 is the first of all its groups; after each
// axis, the ranks whose coordinates on the further axes are 0 have the value.
absl::Status BroadcastFromRankZero(const Mesh& mesh, const Tensor& x) {
  for (const MeshAxis axis : kAxes) {
    Communicator& group = mesh.communicator(axis);
    if (group.size() > 1) STRAKE_RETURN_IF_ERROR(group.Broadcast(x, 0).Wait().status());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MeshBarrier(const Mesh& mesh) {
  for (const MeshAxis axis : kAxes) STRAKE_RETURN_IF_ERROR(mesh.communicator(axis).Barrier());
  return absl::OkStatus();
}

absl::StatusOr<bool> AnyRank(Communicator& group, bool value) {
  if (group.size() == 1) return value;
  double count = value ? 1 : 0;
  STRAKE_RETURN_IF_ERROR(group.AllReduceSum(Tensor(&count, DType::kF64, {1})).Wait().status());
  return count > 0;
}

absl::StatusOr<bool> AnyRank(const Mesh& mesh, bool value) {
  for (const MeshAxis axis : kAxes) {
    STRAKE_ASSIGN_OR_RETURN(value, AnyRank(mesh.communicator(axis), value));
  }
  return value;
}

absl::Status BroadcastText(const Mesh& mesh, std::string* text) {
  int64_t size = text->size();
  STRAKE_RETURN_IF_ERROR(BroadcastFromRankZero(mesh, Tensor(&size, DType::kI64, {1})));
  std::vector<int64_t> words((size + sizeof(int64_t) - 1) / sizeof(int64_t));
  text->resize(size);
  std::memcpy(words.data(), text->data(), size);
  const int64_t count = words.size();
  STRAKE_RETURN_IF_ERROR(BroadcastFromRankZero(mesh, Tensor(words.data(), DType::kI64, {count})));
  std::memcpy(text->data(), words.data(), size);
  return absl::OkStatus();
}

}  // namespace strake
