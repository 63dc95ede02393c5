#include "parallel/comm/single_rank_communicator.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace strake {

void SingleRankCommunicator::Abort(const absl::Status& cause) {
  CHECK(!cause.ok()) << "[comm] rank 0 aborts without a cause";
  if (!aborted_.ok()) return;
  aborted_ = absl::Status(cause.code(),
                          absl::StrCat("rank 0 of axis ", axis(), " aborted: ", cause.message()));
}

std::function<absl::Status()> SingleRankCommunicator::Start(CollectiveCall call) {
  CHECK(call.device == Device::kCpu)
      << "[" << CollectiveName(call.kind) << "] a tensor on a GPU: this group's are on the CPU";
  if (!aborted_.ok()) return [error = ErrorOf(call)] { return error; };
  const size_t bytes = call.count * DTypeSize(call.dtype);
  if (bytes > 0 && call.output != call.input) std::memcpy(call.output, call.input, bytes);
  return nullptr;
}

absl::StatusOr<std::unique_ptr<Communicator>> SingleRankCommunicator::SplitGroup(
    CollectiveCall call, CommunicatorOptions options) {
  if (!aborted_.ok()) return ErrorOf(call);
  return std::make_unique<SingleRankCommunicator>(std::move(options));
}

absl::Status SingleRankCommunicator::ErrorOf(const CollectiveCall& call) const {
  return absl::Status(aborted_.code(),
                      absl::StrCat("[", CollectiveName(call.kind), " #", call.sequence, ", axis ",
                                   axis(), ", rank 0 of 1] ", aborted_.message()));
}

}  // namespace strake
