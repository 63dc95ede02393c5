#include "parallel/pipeline/schedule.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "glog/logging.h"

namespace strake {
namespace {

// Micro-batches go through the chunks of a stage in groups of at least as many as there are stages,
// so that the first of a group is back when its last has left. Sizes of groups differ by at most 1.
int NumGroups(const PipelineShape& shape) {
  return shape.chunks == 1 ? 1 : std::max(1, shape.micro_batches / shape.stages);
}

// The first micro-batch of a group; large groups come first.
int GroupBegin(const PipelineShape& shape, int group) {
  const int groups = NumGroups(shape);
  return group * (shape.micro_batches / groups) + std::min(group, shape.micro_batches % groups);
}

int LargestGroup(const PipelineShape& shape) { return GroupBegin(shape, 1); }

// The forward passes, or with `backward` the backward passes, in the order of every stage.
std::vector<PipelineAction> Passes(const PipelineShape& shape, PipelinePass pass, bool backward) {
  std::vector<PipelineAction> passes;
  for (int group = 0; group < NumGroups(shape); ++group) {
    for (int i = 0; i < shape.chunks; ++i) {
      const int chunk = backward ? shape.chunks - 1 - i : i;
      for (int m = GroupBegin(shape, group); m < GroupBegin(shape, group + 1); ++m) {
        passes.push_back({pass, m, chunk});
      }
    }
  }
  return passes;
}

// The forward passes that a stage has done when the first gradient is back without a wait.
int ForwardLead(const PipelineShape& shape, int stage) {
  const int below = shape.stages - 1 - stage;
  if (shape.chunks == 1) return below + 1;
  return 2 * below + (shape.chunks - 1) * LargestGroup(shape) + 1;
}

struct Leads {
  int forward;  // forward passes before each input gradient
  int input;    // input gradients whose weight gradients wait
};

Leads LeadsOf(const PipelineShape& shape, int stage) {
  if (shape.kind == PipelineKind::kGpipe) return {shape.micro_batches * shape.chunks, 0};
  int forward = ForwardLead(shape, stage);
  if (shape.kind != PipelineKind::kZeroBubble) return {forward, 0};
  const int in_flight = shape.in_flight > 0 ? shape.in_flight : MinInFlight(shape);
  // A stage of one chunk that has room for more passes does them ahead, one for each stage below
  // it: then none waits for the first gradient, and all end that much later (section 2.2).
  if (shape.chunks == 1) {
    forward += std::min(in_flight - MinInFlight(shape), shape.stages - 1 - stage);
  }
  return {forward, in_flight - forward};
}

// -1 and +1: the part before and behind that of a forward pass.
std::optional<int> Neighbour(const PipelineShape& shape, int stage, const PipelineAction& action,
                             int step) {
  if (action.pass == PipelinePass::kWeightGradient || shape.stages == 1) return std::nullopt;
  if (action.pass == PipelinePass::kInputGradient) step = -step;
  const int part = PipelinePart(shape, stage, action.chunk) + step;
  if (part < 0 || part >= shape.stages * shape.chunks) return std::nullopt;
  return part % shape.stages;
}

}  // namespace

const char* PipelineKindName(PipelineKind kind) {
  static constexpr const char* kNames[] = {"gpipe", "1f1b", "interleaved", "zero_bubble"};
  return kNames[static_cast<int>(kind)];
}

std::vector<std::string> PipelineKindNames() {
  std::vector<std::string> names;
  for (const PipelineKind kind : kPipelineKinds) names.push_back(PipelineKindName(kind));
  return names;
}

PipelineKind PipelineKindOf(absl::string_view name) {
  for (const PipelineKind kind : kPipelineKinds) {
    if (name == PipelineKindName(kind)) return kind;
  }
  LOG(FATAL) << "[pipeline] no schedule is called " << name;
}

std::string PipelineAction::ToString() const {
  static constexpr const char* kNames[] = {"forward pass", "input gradient", "weight gradient"};
  return absl::StrCat(kNames[static_cast<int>(pass)], " of micro-batch ", micro_batch,
                      chunk > 0 ? absl::StrCat(" in chunk ", chunk) : "");
}

int MinInFlight(const PipelineShape& shape) { return ForwardLead(shape, 0); }

absl::Status CheckPipelineShape(const PipelineShape& shape) {
  if (std::min({shape.stages, shape.chunks, shape.micro_batches}) < 1 || shape.in_flight < 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "a pipeline needs at least one stage, chunk and micro-batch, and not %d stages, %d chunks, "
        "%d micro-batches and %d passes in flight",
        shape.stages, shape.chunks, shape.micro_batches, shape.in_flight));
  }
  if (shape.kind == PipelineKind::k1f1b && shape.chunks > 1) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the schedule 1f1b has one chunk per stage, and not %d: with several it is "
                        "called interleaved",
                        shape.chunks));
  }
  if (shape.chunks > 1 && shape.micro_batches < shape.stages) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d chunks per stage need at least as many micro-batches as stages, and %d are fewer than "
        "%d: take more micro-batches, at most %d stages, or one chunk",
        shape.chunks, shape.micro_batches, shape.stages, shape.micro_batches));
  }
  if (shape.in_flight == 0) return absl::OkStatus();
  if (shape.kind != PipelineKind::kZeroBubble) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the schedule %s has a number of passes in flight of its own: %d are for zero_bubble alone",
        PipelineKindName(shape.kind), shape.in_flight));
  }
  if (shape.in_flight >= MinInFlight(shape)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "zero_bubble of %d stages with %d chunks and %d micro-batches needs at least "
      "%d passes in flight, and not %d",
      shape.stages, shape.chunks, shape.micro_batches, MinInFlight(shape), shape.in_flight));
}

std::vector<PipelineAction> PipelineActions(const PipelineShape& shape, int stage) {
  CHECK_EQ(CheckPipelineShape(shape), absl::OkStatus());
  CHECK(stage >= 0 && stage < shape.stages) << stage;
  const auto forward = Passes(shape, PipelinePass::kForward, /*backward=*/false);
  const auto input = Passes(shape, PipelinePass::kInputGradient, /*backward=*/true);
  const auto weight = Passes(shape, PipelinePass::kWeightGradient, /*backward=*/true);
  const int num_passes = static_cast<int>(forward.size());
  const Leads leads = LeadsOf(shape, stage);
  std::vector<PipelineAction> actions;
  int num_forward = 0, num_weight = 0;
  for (int i = 0; i < num_passes; ++i) {
    while (num_forward < std::min(i + leads.forward, num_passes)) {
      actions.push_back(forward[num_forward++]);
    }
    actions.push_back(input[i]);
    // Each gradient behind the last forward pass is waited for, which a weight pass fills.
    const bool draining = num_forward == num_passes;
    if (i + 1 - num_weight > leads.input || draining) actions.push_back(weight[num_weight++]);
  }
  actions.insert(actions.end(), weight.begin() + num_weight, weight.end());
  return actions;
}

std::optional<int> PipelineSource(const PipelineShape& shape, int stage,
                                  const PipelineAction& action) {
  return Neighbour(shape, stage, action, -1);
}

std::optional<int> PipelineTarget(const PipelineShape& shape, int stage,
                                  const PipelineAction& action) {
  return Neighbour(shape, stage, action, 1);
}

}  // namespace strake
