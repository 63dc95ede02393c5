// Trains the model of a LayoutCase on its ranks, and records their results.
#ifndef STRAKE_TESTS_TRAIN_LAYOUT_H_
#define STRAKE_TESTS_TRAIN_LAYOUT_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/thread_team.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/shard_range.h"
#include "parallel/mesh/mesh.h"
#include "tests/layout_case.h"
#include "train/engine/engine.h"

namespace strake::testing {

// Sets the weights, a function of the model alone. No weight is at its usual 0 or 1, which would
// hide a bias that is added twice.
void SetWeights(ThreadTeam& team, ParameterArena* arena);

// Makes a rank's engine, with these weights.
absl::StatusOr<std::unique_ptr<Engine>> MakeEngine(const LayoutCase& layout, const Mesh& mesh);

inline constexpr int kNumTrainingSteps = 3;
// Below the norms of these models' gradients, so that the bits depend on clipping.
inline constexpr double kClipNorm = 0.1;

struct StepRecord {
  double loss = 0;  // mean over the global batch's targets
  double norm = 0;
  std::vector<double> grads;  // of that mean, of the rank's ranges, one after the other
  bool operator==(const StepRecord&) const = default;
};

// One rank's results. f32 and bf16 numbers are kept exactly.
struct RankRecord {
  std::vector<ShardRange> ranges;  // that it updates
  std::vector<StepRecord> steps;
  double evaluation_loss = 0;   // of another batch, after the last step
  std::vector<double> weights;  // after the last step
  bool operator==(const RankRecord&) const = default;
};

struct TrainOptions {
  double clip_norm = kClipNorm;
  bool check = true;                           // the communicators' check mode
  std::function<Mesh(const Mesh&)> wrap = {};  // what each rank trains on instead of its mesh
};

// Trains from the weights above, on a rank of the mesh, and returns its record.
absl::StatusOr<RankRecord> TrainOnRank(const LayoutCase& layout, const TrainOptions& options,
                                       const Mesh& mesh);

// Returns the records by rank, of ranks that are threads. Batches are functions of the
// vocabulary, the documents and the global batch's size alone. AdamW's epsilon is large enough not
// to amplify rounding errors where a gradient is 0. Returns a rank's first error.
absl::StatusOr<std::vector<RankRecord>> TrainLayout(const LayoutCase& layout,
                                                    const TrainOptions& options = {});

}  // namespace strake::testing

#endif  // STRAKE_TESTS_TRAIN_LAYOUT_H_
