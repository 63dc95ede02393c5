#include "parallel/comm/dry_run_communicator.h"

#include <utility>

#include "core/base/dtype.h"
#include "core/tensor/tensor.h"

namespace strake {

DryRunCommunicator::DryRunCommunicator(int rank, int size, std::string axis, OpRecorder* recorder)
    : Communicator(rank, size, {.axis = std::move(axis)}), recorder_(recorder) {}

absl::StatusOr<std::unique_ptr<Communicator>> DryRunCommunicator::SplitInto(
    absl::Span<const int> members, std::string axis, CallSite /*site*/) {
  return std::make_unique<DryRunCommunicator>(PlaceIn(members), static_cast<int>(members.size()),
                                              std::move(axis), recorder_);
}

std::function<absl::Status()> DryRunCommunicator::Start(CollectiveCall call) {
  if (recorder_ == nullptr || size() == 1) return nullptr;
  OpCall recorded = {.op = CollectiveName(call.kind)};
  recorded.axis = stats_axis();
  recorded.num_ranks = size();
  // Its bytes are the payload.
  recorded.In("x", Tensor(nullptr, call.dtype, {call.count}, call.device));
  recorder_->Add(std::move(recorded));
  return nullptr;
}

absl::StatusOr<std::unique_ptr<Communicator>> DryRunCommunicator::SplitGroup(
    CollectiveCall /*call*/, CommunicatorOptions /*options*/) {
  return absl::UnimplementedError("[comm] a dry run cannot know the size of a split group");
}

}  // namespace strake
