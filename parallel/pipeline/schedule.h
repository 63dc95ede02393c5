// The schedules of pipeline parallelism: which pass of which micro-batch a stage does next.
//
// A model is cut into stages * chunks parts of consecutive layers. Stage s holds the parts
// c * stages + s, its chunks c. A micro-batch's forward pass goes through the parts in their order,
// and its backward pass back. The schedule of a stage is a list, a pure function of its shape.
//
//   gpipe        all forward passes, then all backward passes (Huang et al. 2019, section 2.3, but
//                with the first micro-batch first)
//   1f1b         as many forward passes as it takes until the first gradient is back, then one
//                backward and one forward pass in turn (Narayanan et al. 2021, section 2.2.1)
//   interleaved  the same with several chunks per stage, whose passes are shorter, and so is what a
//                stage waits for (section 2.2.2)
//   zero_bubble  the order of the two above, but weight gradients wait until a stage has nothing
//                else to do (Qi et al. 2023, section 2.1)
//
// All add the weight gradients of a chunk in the order of micro-batches, as one rank does.
#ifndef STRAKE_PARALLEL_PIPELINE_SCHEDULE_H_
#define STRAKE_PARALLEL_PIPELINE_SCHEDULE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace strake {

enum class PipelineKind { kGpipe, k1f1b, kInterleaved, kZeroBubble };
inline constexpr PipelineKind kPipelineKinds[] = {PipelineKind::kGpipe, PipelineKind::k1f1b,
                                                  PipelineKind::kInterleaved,
                                                  PipelineKind::kZeroBubble};
// "gpipe", "1f1b", "interleaved", "zero_bubble".
const char* PipelineKindName(PipelineKind kind);
std::vector<std::string> PipelineKindNames();
// CHECKs that the name is one of them.
PipelineKind PipelineKindOf(absl::string_view name);

enum class PipelinePass { kForward, kInputGradient, kWeightGradient };

struct PipelineAction {
  PipelinePass pass;
  int micro_batch;
  int chunk;

  bool operator==(const PipelineAction&) const = default;
  // "forward pass of micro-batch 3", and " in chunk 1" where it is not chunk 0.
  std::string ToString() const;
};

struct PipelineShape {
  PipelineKind kind = PipelineKind::k1f1b;
  int stages = 1;
  int chunks = 1;  // per stage
  int micro_batches = 1;
  // The passes through a chunk whose activations a stage may hold under zero_bubble, that is of
  // which the weight gradients are not there; 0: MinInFlight().
  int in_flight = 0;
};

// The fewest passes in flight of zero_bubble: what stage 0 has under 1f1b or interleaved.
int MinInFlight(const PipelineShape& shape);

// InvalidArgument, with the numbers and what fits, for numbers below 1, chunks under 1f1b, several
// chunks with fewer micro-batches than stages, and an `in_flight` of another kind or that is not
// enough.
absl::Status CheckPipelineShape(const PipelineShape& shape);

// What a stage in [0, stages) does, in order: the three passes of each micro-batch and chunk.
// CHECKs the shape.
std::vector<PipelineAction> PipelineActions(const PipelineShape& shape, int stage);

// The part of the model, in [0, stages * chunks), that is a stage's chunk.
inline int PipelinePart(const PipelineShape& shape, int stage, int chunk) {
  return chunk * shape.stages + stage;
}

// The stage that sends what an action of `stage` begins with: activations, or the gradient of its
// output. None for a part at the end of the model, a weight gradient, and one stage.
std::optional<int> PipelineSource(const PipelineShape& shape, int stage,
                                  const PipelineAction& action);
// The stage that is sent what the action makes, likewise.
std::optional<int> PipelineTarget(const PipelineShape& shape, int stage,
                                  const PipelineAction& action);

}  // namespace strake

#endif  // STRAKE_PARALLEL_PIPELINE_SCHEDULE_H_
