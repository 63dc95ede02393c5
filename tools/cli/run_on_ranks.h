// Runs a program's work on the ranks of its layout.
#ifndef STRAKE_TOOLS_CLI_RUN_ON_RANKS_H_
#define STRAKE_TOOLS_CLI_RUN_ON_RANKS_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "parallel/mesh/mesh.h"
#include "tools/cli/layout.h"

namespace strake {

// Calls `body` for each rank of this process: for all ranks, as threads, or with --comm=mpi and
// nccl for the process's own rank. Returns the first error; the other ranks' collectives then fail.
// Under mpirun a failed rank does not return: it prints its error, unless another process's error
// caused it, and ends the process.
absl::Status RunOnRanks(const LayoutConfig& layout,
                        absl::FunctionRef<absl::Status(const Mesh& mesh)> body);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_RUN_ON_RANKS_H_
