#include "parallel/comm/single_rank_communicator.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/cuda/cuda_runtime.h"
#include "glog/logging.h"

namespace strake {

void SingleRankCommunicator::Abort(const absl::Status& cause) {
  CHECK(!cause.ok()) << "[comm] rank 0 aborts without a cause";
  if (!aborted_.ok()) return;
  aborted_ = absl::Status(cause.code(),
                          absl::StrCat("rank 0 of axis ", axis(), " aborted: ", cause.message()));
}

std::function<absl::Status()> SingleRankCommunicator::Start(CollectiveCall call) {
  if (!aborted_.ok()) return [error = ErrorOf(call)] { return error; };
  const size_t bytes = call.count * DTypeSize(call.dtype);
  if (bytes == 0 || call.output == call.input) return nullptr;
  if (call.device == Device::kCpu) {
    std::memcpy(call.output, call.input, bytes);
    return nullptr;
  }
  const absl::Status status = CopyOnDevice(call.output, call.input, bytes, cuda_stream());
  return status.ok() ? nullptr : std::function([status] { return status; });
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
