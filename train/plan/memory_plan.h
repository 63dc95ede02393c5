// What a run allocates, to the byte, beside what the machine has.
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

// A lower bound on what PlanMemory() gives for the first rank, in floating point, for sizes of
// which no plan can be made: from plans of few sequences and few logits, since what a plan needs
// grows at least as fast with every further sequence as with the first ones. Of options that have
// as few: weights, gradients and optimizer alone.
double LeastMemoryBytes(const EngineOptions& options, const MeshVector& sizes);

// What the first rank allocates besides while it gathers a checkpoint: the largest parameter,
// whole, and a rank's part of it, where it is cut.
size_t CheckpointBytes(const EngineOptions& options, const MeshVector& sizes);

// ResourceExhausted, with both figures, where `num_ranks` ranks like the first one, which share the
// memory of this machine or its GPU, need more of it than is available. To be called before ranks
// are started.
absl::Status CheckMemory(const EngineOptions& options, const MeshVector& sizes, int num_ranks);

struct AvailableMemory {
  size_t bytes = 0;
  std::string of;  // " of memory", or " on GPU 0 (NVIDIA H200)"
};
// Of this machine, or of a GPU, whose error it is where there is none.
absl::StatusOr<AvailableMemory> FindAvailableMemory(Device device, int cuda_device);

// Bytes that this process may still allocate: what the system has available, and what its control
// group leaves; nothing where neither can be read.
std::optional<size_t> AvailableMemoryBytes();

}  // namespace strake

#endif  // STRAKE_TRAIN_PLAN_MEMORY_PLAN_H_
