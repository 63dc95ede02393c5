// Communication of a program's ranks beside training: along one axis of the mesh after another.
#ifndef STRAKE_TRAIN_ENGINE_MESH_WIDE_H_
#define STRAKE_TRAIN_ENGINE_MESH_WIDE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "parallel/mesh/mesh.h"

namespace strake {

// Returns on a rank only after every rank has called it. An error of any rank before that ends all.
absl::Status MeshBarrier(const Mesh& mesh);

// Returns whether the value is true on any rank of the mesh, or of a group. Each of them calls it.
absl::StatusOr<bool> AnyRank(const Mesh& mesh, bool value);
absl::StatusOr<bool> AnyRank(Communicator& group, bool value);

// Broadcasts rank 0's text to every rank.
absl::Status BroadcastText(const Mesh& mesh, std::string* text);

// Appends the other ranks' texts, in their order and each behind a separator, to rank 0's. Other
// ranks' texts are undefined afterwards.
absl::Status GatherText(const Mesh& mesh, absl::string_view separator, std::string* text);

}  // namespace strake

#endif  // STRAKE_TRAIN_ENGINE_MESH_WIDE_H_
