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

// A lower bound on PlanMemory() of the first rank, in floating point, for sizes too large to plan.
// It extrapolates from plans of few sequences and few logits, since each further sequence needs at
// least as much as the first ones. For options that are as small as those it is the memory of
// weights, gradients and optimizer alone.
double LeastMemoryBytes(const EngineOptions& options, const MeshVector& sizes);

// The memory that the first rank allocates additionally while it gathers a checkpoint: the largest
// parameter, whole, and, where it is sharded, a rank's part of it.
size_t CheckpointBytes(const EngineOptions& options, const MeshVector& sizes);

// The host memory that the first rank needs to save while it trains: the weights and optimizer
// state of all that is trained.
size_t SnapshotBytes(const EngineOptions& options);

// ResourceExhausted, with both figures, where `num_ranks` ranks like the first one, which share the
// memory of this machine or its GPU, need more of it than is available. Counts NCCL's buffers where
// other GPUs have further ranks. Call it before ranks are started.
absl::Status CheckMemory(const EngineOptions& options, const MeshVector& sizes, int num_ranks);

// Whether this machine has memory for snapshots beside such ranks.
bool HasMemoryForSnapshots(const EngineOptions& options, const MeshVector& sizes, int num_ranks);

struct AvailableMemory {
  size_t bytes = 0;
  std::string of;  // " of memory", or " on GPU 0 (NVIDIA H200)"
};
// Finds the memory of this machine, or of a GPU; returns the error of a GPU that is missing.
absl::StatusOr<AvailableMemory> FindAvailableMemory(Device device, int cuda_device);

// Bytes that this process may still allocate: the memory that the system has available and that its
// control group leaves; nullopt where neither can be read.
std::optional<size_t> AvailableMemoryBytes();

}  // namespace strake

#endif  // STRAKE_TRAIN_PLAN_MEMORY_PLAN_H_
