#include "parallel/pipeline/simulation.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

// A pass of a micro-batch through a part of the model.
struct Key {
  PipelinePass pass;
  int micro_batch, part;

  bool operator==(const Key&) const = default;
};

absl::Status ActionError(int stage, const PipelineAction& action, const std::string& what) {
  return absl::InternalError(absl::StrCat("stage ", stage, ": ", action.ToString(), ": ", what));
}

class Simulator {
 public:
  Simulator(const PipelineShape& shape, const std::vector<std::vector<PipelineAction>>& actions,
            const std::function<PipelineCosts(int part)>& costs)
      : shape_(shape),
        actions_(actions),
        costs_(costs),
        ends_(size_t{3} * shape.micro_batches * shape.stages * shape.chunks, -1),
        channels_(size_t{2} * shape.stages * shape.stages),
        in_flight_(shape.stages, 0) {
    result_.stages.resize(shape.stages);
    result_.peak_in_flight.resize(shape.stages, 0);
  }

  absl::StatusOr<PipelineSimulation> Run() && {
    for (int stage = 0; stage < shape_.stages; ++stage) {
      STRAKE_RETURN_IF_ERROR(CheckComplete(stage));
    }
    for (bool progress = true; progress;) {
      progress = false;
      for (int stage = 0; stage < shape_.stages; ++stage) {
        STRAKE_ASSIGN_OR_RETURN(const bool did, DoWhatCanBegin(stage));
        progress |= did;
      }
    }
    STRAKE_RETURN_IF_ERROR(CheckNoneWaits());
    return std::move(result_);
  }

 private:
  struct Message {
    Key key;  // of the pass that it is for
    double arrival;
  };
  // What one stage sends to another, of one kind of pass.
  struct Channel {
    std::vector<Message> sent = {};
    size_t num_taken = 0;
  };

  Key KeyOf(int stage, const PipelineAction& action) const {
    return {action.pass, action.micro_batch, PipelinePart(shape_, stage, action.chunk)};
  }
  size_t IndexOf(const Key& key) const {
    const size_t row = static_cast<size_t>(key.pass) * shape_.micro_batches + key.micro_batch;
    return row * shape_.stages * shape_.chunks + key.part;
  }
  Channel& ChannelOf(int sender, int receiver, PipelinePass pass) {
    const size_t pair = static_cast<size_t>(sender) * shape_.stages + receiver;
    return channels_[2 * pair + (pass == PipelinePass::kForward ? 0 : 1)];
  }
  // The key that the pass makes possible in the next part.
  static Key Next(Key key) {
    key.part += key.pass == PipelinePass::kForward ? 1 : -1;
    return key;
  }
  static Key Previous(Key key) {
    key.part += key.pass == PipelinePass::kForward ? -1 : 1;
    return key;
  }
  bool IsInModel(const Key& key) const {
    return key.part >= 0 && key.part < shape_.stages * shape_.chunks;
  }

  absl::Status CheckComplete(int stage) const {
    const size_t expected = size_t{3} * shape_.micro_batches * shape_.chunks;
    std::vector<bool> found(expected);
    size_t num_found = 0;
    for (const PipelineAction& action : actions_.at(stage)) {
      const bool exists = std::min(action.micro_batch, action.chunk) >= 0 &&
                          action.micro_batch < shape_.micro_batches && action.chunk < shape_.chunks;
      if (!exists) return ActionError(stage, action, "there is none");
      const size_t row = static_cast<size_t>(action.pass) * shape_.micro_batches;
      const size_t index = (row + action.micro_batch) * shape_.chunks + action.chunk;
      if (found[index]) return ActionError(stage, action, "is done twice");
      found[index] = true;
      ++num_found;
    }
    if (num_found == expected) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("stage ", stage, ": does ", num_found,
                                            " actions, where there are ", expected));
  }

  absl::StatusOr<bool> DoWhatCanBegin(int stage) {
    std::vector<TimedAction>& done = result_.stages[stage];
    const size_t before = done.size();
    while (done.size() < actions_[stage].size()) {
      const PipelineAction& action = actions_[stage][done.size()];
      STRAKE_RETURN_IF_ERROR(CheckOwnOrder(stage, action));
      STRAKE_ASSIGN_OR_RETURN(const std::optional<double> input, TakeInput(stage, action));
      if (!input.has_value()) break;
      Do(stage, action, *input);
    }
    return done.size() > before;
  }

  // The pass of the same part that must come before.
  absl::Status CheckOwnOrder(int stage, const PipelineAction& action) const {
    if (action.pass == PipelinePass::kForward) return absl::OkStatus();
    PipelineAction needed = action;
    needed.pass = action.pass == PipelinePass::kInputGradient ? PipelinePass::kForward
                                                              : PipelinePass::kInputGradient;
    if (ends_[IndexOf(KeyOf(stage, needed))] >= 0) return absl::OkStatus();
    return ActionError(stage, action, absl::StrCat("comes before the ", needed.ToString()));
  }

  // Returns when the output of the part before, or the gradient of the part behind, is there; none
  // where that is not known yet.
  absl::StatusOr<std::optional<double>> TakeInput(int stage, const PipelineAction& action) {
    const Key key = KeyOf(stage, action);
    if (action.pass == PipelinePass::kWeightGradient || !IsInModel(Previous(key))) return 0;
    const std::optional<int> source = PipelineSource(shape_, stage, action);
    if (!source.has_value()) {
      const double end = ends_[IndexOf(Previous(key))];
      if (end >= 0) return end;
      return ActionError(stage, action, "comes before that of the chunk whose result it takes");
    }
    Channel& channel = ChannelOf(*source, stage, action.pass);
    if (channel.num_taken == channel.sent.size()) return std::nullopt;
    const Message& message = channel.sent[channel.num_taken++];
    if (message.key == key) return message.arrival;
    return ActionError(
        stage, action,
        absl::StrCat("stage ", *source, " sends what micro-batch ", message.key.micro_batch,
                     " needs in part ", message.key.part, " before"));
  }

  void Do(int stage, const PipelineAction& action, double input) {
    std::vector<TimedAction>& done = result_.stages[stage];
    const Key key = KeyOf(stage, action);
    const PipelineCosts costs = costs_(key.part);
    const double begin = std::max(input, done.empty() ? 0 : done.back().end);
    const double end = begin + costs.of(action.pass);
    done.push_back({action, begin, end});
    ends_[IndexOf(key)] = end;
    result_.time = std::max(result_.time, end);
    if (action.pass == PipelinePass::kForward) ++in_flight_[stage];
    if (action.pass == PipelinePass::kWeightGradient) --in_flight_[stage];
    result_.peak_in_flight[stage] = std::max(result_.peak_in_flight[stage], in_flight_[stage]);
    const std::optional<int> target = PipelineTarget(shape_, stage, action);
    if (!target.has_value()) return;
    ChannelOf(stage, *target, action.pass).sent.push_back({Next(key), end + costs.transfer});
  }

  absl::Status CheckNoneWaits() const {
    std::string waiting;
    for (int stage = 0; stage < shape_.stages; ++stage) {
      const size_t num_done = result_.stages[stage].size();
      if (num_done == actions_[stage].size()) continue;
      absl::StrAppend(&waiting, waiting.empty() ? "" : ", ", "stage ", stage, " for what the ",
                      actions_[stage][num_done].ToString(), " takes");
    }
    if (waiting.empty()) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("stages wait for each other: ", waiting));
  }

  const PipelineShape& shape_;
  const std::vector<std::vector<PipelineAction>>& actions_;
  const std::function<PipelineCosts(int part)>& costs_;
  std::vector<double> ends_;  // by IndexOf(); -1: not done
  std::vector<Channel> channels_;
  std::vector<int> in_flight_;
  PipelineSimulation result_;
};

}  // namespace

double PipelineCosts::of(PipelinePass pass) const {
  if (pass == PipelinePass::kForward) return forward;
  return pass == PipelinePass::kInputGradient ? input_gradient : weight_gradient;
}

double PipelineSimulation::IdleShare() const {
  double busy = 0;
  for (const std::vector<TimedAction>& stage : stages) {
    for (const TimedAction& timed : stage) busy += timed.end - timed.begin;
  }
  return 1 - busy / (time * static_cast<double>(stages.size()));
}

absl::StatusOr<PipelineSimulation> SimulatePipeline(
    const PipelineShape& shape, const std::vector<std::vector<PipelineAction>>& actions,
    const std::function<PipelineCosts(int part)>& costs) {
  return Simulator(shape, actions, costs).Run();
}

absl::StatusOr<PipelineSimulation> SimulatePipeline(const PipelineShape& shape,
                                                    const PipelineCosts& costs) {
  std::vector<std::vector<PipelineAction>> actions;
  for (int stage = 0; stage < shape.stages; ++stage) {
    actions.push_back(PipelineActions(shape, stage));
  }
  return SimulatePipeline(shape, actions, [&](int) { return costs; });
}

}  // namespace strake
