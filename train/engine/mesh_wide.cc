#include "train/engine/mesh_wide.h"

#include <cstdint>
#include <cstring>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/tensor/tensor.h"

namespace strake {
namespace {

// Broadcasts along each axis from its first rank. Rank 0 is the first of all its groups; after each
// axis, the ranks whose coordinates on the further axes are 0 have the value.
absl::Status BroadcastFromRankZero(const Mesh& mesh, const Tensor& x) {
  for (const MeshAxis axis : kMeshAxes) {
    Communicator& group = mesh.communicator(axis);
    if (group.size() > 1) STRAKE_RETURN_IF_ERROR(group.Broadcast(x, 0).Wait().status());
  }
  return absl::OkStatus();
}

// Bytes in 64-bit words, which collectives carry.
std::vector<int64_t> WordsFor(int64_t num_bytes) {
  return std::vector<int64_t>((num_bytes + sizeof(int64_t) - 1) / sizeof(int64_t));
}

Tensor TensorOf(std::vector<int64_t>& words) {
  return Tensor(words.data(), DType::kI64, {static_cast<int64_t>(words.size())});
}

absl::Status SendText(Communicator& group, int to, const std::string& text) {
  int64_t size = static_cast<int64_t>(text.size());
  STRAKE_RETURN_IF_ERROR(group.Send(Tensor(&size, DType::kI64, {1}), to).Wait().status());
  std::vector<int64_t> words = WordsFor(size);
  std::memcpy(words.data(), text.data(), size);
  return group.Send(TensorOf(words), to).Wait().status();
}

absl::StatusOr<std::string> ReceiveText(Communicator& group, int from) {
  int64_t size = 0;
  STRAKE_RETURN_IF_ERROR(group.Recv(Tensor(&size, DType::kI64, {1}), from).Wait().status());
  std::vector<int64_t> words = WordsFor(size);
  STRAKE_RETURN_IF_ERROR(group.Recv(TensorOf(words), from).Wait().status());
  return std::string(reinterpret_cast<const char*>(words.data()), size);
}

}  // namespace

absl::Status MeshBarrier(const Mesh& mesh) {
  for (const MeshAxis axis : kMeshAxes) STRAKE_RETURN_IF_ERROR(mesh.communicator(axis).Barrier());
  return absl::OkStatus();
}

absl::StatusOr<bool> AnyRank(Communicator& group, bool value) {
  if (group.size() == 1) return value;
  double count = value ? 1 : 0;
  STRAKE_RETURN_IF_ERROR(group.AllReduceSum(Tensor(&count, DType::kF64, {1})).Wait().status());
  return count > 0;
}

absl::StatusOr<bool> AnyRank(const Mesh& mesh, bool value) {
  for (const MeshAxis axis : kMeshAxes) {
    STRAKE_ASSIGN_OR_RETURN(value, AnyRank(mesh.communicator(axis), value));
  }
  return value;
}

absl::Status BroadcastText(const Mesh& mesh, std::string* text) {
  int64_t size = text->size();
  STRAKE_RETURN_IF_ERROR(BroadcastFromRankZero(mesh, Tensor(&size, DType::kI64, {1})));
  std::vector<int64_t> words = WordsFor(size);
  text->resize(size);
  std::memcpy(words.data(), text->data(), size);
  STRAKE_RETURN_IF_ERROR(BroadcastFromRankZero(mesh, TensorOf(words)));
  std::memcpy(text->data(), words.data(), size);
  return absl::OkStatus();
}

// The innermost axis comes first: so each group's texts are in the order of their ranks.
absl::Status GatherText(const Mesh& mesh, absl::string_view separator, std::string* text) {
  for (auto axis = std::rbegin(kMeshAxes); axis != std::rend(kMeshAxes); ++axis) {
    Communicator& group = mesh.communicator(*axis);
    if (group.rank() > 0) return SendText(group, 0, *text);
    for (int rank = 1; rank < group.size(); ++rank) {
      STRAKE_ASSIGN_OR_RETURN(const std::string other, ReceiveText(group, rank));
      absl::StrAppend(text, separator, other);
    }
  }
  return absl::OkStatus();
}

}  // namespace strake
