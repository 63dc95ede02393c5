// Ranks as threads of this process: the way to run a mesh on one machine, and in tests.
#ifndef STRAKE_PARALLEL_MESH_RUN_ON_THREADS_H_
#define STRAKE_PARALLEL_MESH_RUN_ON_THREADS_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "parallel/comm/communicator.h"
#include "parallel/mesh/mesh.h"

namespace strake {

// Runs `body` once for each rank of a mesh of these sizes, rank 0 on the calling thread, and
// returns when all have ended. `options.axis` is of no matter: each axis has its own name.
//
// Where a body returns an error, all collectives of the mesh fail, so that the other ranks end too;
// the error that came first, which is the cause of the rest, is returned; Aborted, that a rank left
// or dropped a collective, only if there is no other. ResourceExhausted where the system has no
// thread for a rank. Meshes and communicators live until the last body has ended.
absl::Status RunOnThreads(const MeshVector& sizes, const CommunicatorOptions& options,
                          absl::FunctionRef<absl::Status(const Mesh& mesh)> body);

}  // namespace strake

#endif  // STRAKE_PARALLEL_MESH_RUN_ON_THREADS_H_
