// Compares one training step, on one rank or many, with the same step by definition.
#ifndef STRAKE_TOOLS_CHECKING_CHECK_STEP_H_
#define STRAKE_TOOLS_CHECKING_CHECK_STEP_H_

#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "parallel/mesh/mesh.h"
#include "tools/checking/check_batch.h"
#include "tools/checking/check_config.h"
#include "tools/checking/check_line.h"
#include "tools/checking/check_shards.h"
#include "tools/cli/progress.h"
#include "train/engine/engine.h"

namespace strake {

// The step to compare with.
struct WholeStep {
  double loss = 0;  // mean over the global batch
  WholeTensors weights, grads;
  // Relative changes when every weight is off by one rounding to the check's dtype: of the loss, of
  // each gradient in the order of `grads`, and of their norm.
  double loss_sensitivity = 0, norm_sensitivity = 0;
  std::vector<double> grad_sensitivities = {};
};

// Computes the step by the definitions in f64, on one rank; twice, for the sensitivities.
absl::StatusOr<std::unique_ptr<WholeStep>> ComputeWholeStep(const CheckCommand& command,
                                                            const StepBatch& batch,
                                                            Progress* screen);

// Makes a rank's engine with the weights of the check.
absl::StatusOr<std::unique_ptr<Engine>> MakeCheckEngine(const CheckCommand& command,
                                                        const EngineOptions& options,
                                                        const Mesh& mesh);

class StepComparison {
 public:
  // All must outlive the comparison. `options` are those of the engines.
  StepComparison(const CheckCommand* command, const StepBatch* batch, const WholeStep* truth,
                 const EngineOptions& options, const MeshVector& sizes, Progress* screen);

  // Each rank of the mesh calls it once, on its own thread. Returns an error of a collective, and
  // an error for a loss that is not finite.
  absl::Status Run(Engine& engine);

  // Call it after all ranks have run. Lines for weights, loss, gradients from the last parameter to
  // the first, norm, and the counts of a ShardCoverage.
  std::vector<CheckLine> Lines() const;
  ShardCoverage Coverage() const { return grads_.Coverage(); }

 private:
  // `array` covers `range` of the rank's index space, on its device.
  absl::Status Add(int rank, const ParameterArena& parameters, const ArenaPart& part,
                   ShardComparison* comparison);
  double Tolerance(double sensitivity) const;

  const CheckCommand& command_;
  const StepBatch& batch_;
  const WholeStep& truth_;
  const MeshVector sizes_;
  Progress* const screen_;

  std::mutex mutex_;
  ShardComparison weights_, grads_;
  LargestDifference loss_, norm_;  // over ranks
};

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_STEP_H_
