// Runs ranks as threads of this process: a mesh on one machine, also for tests.
#ifndef STRAKE_PARALLEL_MESH_RUN_ON_THREADS_H_
#define STRAKE_PARALLEL_MESH_RUN_ON_THREADS_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "parallel/comm/communicator.h"
#include "parallel/mesh/mesh.h"

namespace strake {

// Runs `body` once for each rank of a mesh of these sizes, rank 0 on the calling thread, and
// returns when all have ended. `options.axis` is ignored: each axis has its own name.
//
// If a body returns an error, all collectives of the mesh fail, so that the other ranks end too.
// The first error, which caused the others, is returned; Aborted (a rank left the group or dropped
// a collective) only where there is no other. ResourceExhausted where the system cannot start a
// thread for a rank. Meshes and communicators live until the last body has ended.
absl::Status RunOnThreads(const MeshVector& sizes, const CommunicatorOptions& options,
                          absl::FunctionRef<absl::Status(const Mesh& mesh)> body);

}  // namespace strake

#endif  // STRAKE_PARALLEL_MESH_RUN_ON_THREADS_H_
