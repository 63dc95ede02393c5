// Simulates the schedule of a pipeline: proves that it can be done, and says how long it takes.
#ifndef STRAKE_PARALLEL_PIPELINE_SIMULATION_H_
#define STRAKE_PARALLEL_PIPELINE_SIMULATION_H_

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "parallel/pipeline/schedule.h"

namespace strake {

// Durations, in any unit.
struct PipelineCosts {
  double forward = 1, input_gradient = 1, weight_gradient = 1;
  double transfer = 0;  // from the end of a pass to where its result has arrived

  double of(PipelinePass pass) const;
};

struct TimedAction {
  PipelineAction action;
  double begin, end;
};

struct PipelineSimulation {
  std::vector<std::vector<TimedAction>> stages;
  double time = 0;                  // from the first pass to the end of the last one
  std::vector<int> peak_in_flight;  // by stage: passes whose activations it holds at once

  // The share of the stages' time in which they wait.
  double IdleShare() const;
};

// Executes what each stage does, in order. A pass begins when the stage is free and what it needs
// is there; a send waits for nobody. Internal, naming stage and action, where an action is missing,
// is done twice, or comes before what it needs on its own stage; where stages wait for each other;
// and where a stage takes what another one sends it in another order than it is sent, forward
// and backward apart: transports match sends and receives by their order.
absl::StatusOr<PipelineSimulation> SimulatePipeline(
    const PipelineShape& shape, const std::vector<std::vector<PipelineAction>>& actions,
    const std::function<PipelineCosts(int part)>& costs);

// The same of PipelineActions() of each stage.
absl::StatusOr<PipelineSimulation> SimulatePipeline(const PipelineShape& shape,
                                                    const PipelineCosts& costs = {});

}  // namespace strake

#endif  // STRAKE_PARALLEL_PIPELINE_SIMULATION_H_
