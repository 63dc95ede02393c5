// What a program's ranks tell each other beside training: along one axis of the mesh after another.
#ifndef STRAKE_TRAIN_ENGINE_MESH_WIDE_H_
#define STRAKE_TRAIN_ENGINE_MESH_WIDE_H_

#include <string>

#include "absl/status/status.h"
#include "parallel/mesh/mesh.h"

namespace strake {

// Returns on no rank before every rank has called it: an error of any rank before that ends all.
absl::Status MeshBarrier(const Mesh& mesh);

// Rank 0's text, on every rank.
absl::Status BroadcastText(const Mesh& mesh, std::string* text);

}  // namespace strake

#endif  // STRAKE_TRAIN_ENGINE_MESH_WIDE_H_
