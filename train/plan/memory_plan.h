// The memory that a run allocates, to the byte, and an estimate of NCCL's, compared with the
// machine's.
#ifndef STRAKE_TRAIN_PLAN_MEMORY_PLAN_H_
#define STRAKE_TRAIN_PLAN_MEMORY_PLAN_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tensor/tensor.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine_options.h"
#include "train/engine/step_record.h"  // MemoryPlan, PlanMemory

namespace strake {

// A lower bound on PlanMemory() of the first rank of a stage, in floating point, for sizes too
// large to plan. It extrapolates from plans of few sequences and few logits, since each further
// sequence needs at least as much as the first ones. For options that are as small as those it is
// the memory of weights, gradients and optimizer alone.
double LeastMemoryBytes(const EngineOptions& options, const MeshVector& sizes, int stage = 0);

// The memory that the first rank allocates additionally while it gathers a checkpoint: the largest
// parameter, whole, and, where it is sharded, a rank's part of it.
size_t CheckpointBytes(const EngineOptions& options, const MeshVector& sizes);

// The host memory that the first rank needs to save while it trains: the weights and optimizer
// state of all that is trained.
size_t SnapshotBytes(const EngineOptions& options);

struct AvailableMemory {
  size_t bytes = 0;
  std::string of;  // " of memory", or " on GPU 0 (NVIDIA H200)"
};
// ResourceExhausted, with both figures, where ranks that share the memory of a machine or of its
// GPU need more of it than this one has available. `num_ranks` that follow each other share one.
// Each needs as much as the first rank of its stage, and the machine whose ranks need the most
// counts: the error names the dearest of its stages. Counts NCCL's buffers where other GPUs have
// further ranks. InvalidArgument where the stages do not fit the model. Call it before ranks are
// started.
absl::Status CheckMemory(const EngineOptions& options, const MeshVector& sizes, int num_ranks);
// The same, with `available` on each machine.
absl::Status CheckMemory(const EngineOptions& options, const MeshVector& sizes, int num_ranks,
                         const AvailableMemory& available);

// Returns whether this machine has memory for snapshots beside the first `num_ranks` ranks.
bool HasMemoryForSnapshots(const EngineOptions& options, const MeshVector& sizes, int num_ranks);

// Finds the memory of this machine, or of a GPU; returns the error of a GPU that is missing.
absl::StatusOr<AvailableMemory> FindAvailableMemory(Device device, int cuda_device);

// Bytes that this process may still allocate: the memory that the system has available and that its
// control group leaves; nullopt where neither can be read.
std::optional<size_t> AvailableMemoryBytes();

}  // namespace strake

#endif  // STRAKE_TRAIN_PLAN_MEMORY_PLAN_H_
