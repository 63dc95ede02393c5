// StepRecord: the calls of a rank in a training step, and the memory that it needs, from a dry run
// of its engine.
#ifndef STRAKE_TRAIN_ENGINE_STEP_RECORD_H_
#define STRAKE_TRAIN_ENGINE_STEP_RECORD_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "core/device/op_call.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine.h"
#include "train/engine/engine_options.h"

namespace strake {

struct StepRecord {
  // In execution order. Micro-batches between a step's first and last are recorded once, with their
  // number in OpCall::times; on a mesh with pipeline stages each is recorded by itself.
  std::vector<OpCall> calls;
  MemoryPlan memory;
};

// Records a step of rank `rank` of a mesh of these sizes: `num_micro_batches` of
// options.micro_batch sequences, from the first micro-batch to the ranks' agreement at the step's
// end. With options.documents, `lengths` are the documents of each micro-batch, from which the work
// is counted; empty: each sequence is one, which is the most work. CHECKs that the sizes fit the
// model: CheckTensorParallel().
StepRecord RecordStep(const EngineOptions& options, const MeshVector& sizes, int rank,
                      int64_t num_micro_batches, absl::Span<const int64_t> lengths = {});

// Plans the memory alone, which depends neither on the documents in micro-batches nor, without
// pipeline stages, on their number: that of a step, and of passes of fewer tokens, with or without
// gradients, whose sequences are no longer.
MemoryPlan PlanMemory(const EngineOptions& options, const MeshVector& sizes, int rank);

}  // namespace strake

#endif  // STRAKE_TRAIN_ENGINE_STEP_RECORD_H_
