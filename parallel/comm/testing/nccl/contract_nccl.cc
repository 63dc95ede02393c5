#include "parallel/comm/testing/nccl/contract_nccl.h"

#include "absl/strings/str_cat.h"
#include "parallel/comm/testing/nccl/nccl_call.h"
#include "parallel/comm/testing/nccl/nccl_state.h"

namespace strake::testing {
namespace {

const char* GetErrorString(NcclResult result) {
  switch (result) {
    case NcclResult::kSuccess:
      return "no error";
    case NcclResult::kUnhandledCudaError:
      return "unhandled cuda error";
    case NcclResult::kSystemError:
      return "unhandled system error";
    case NcclResult::kInternalError:
      return "internal error";
    case NcclResult::kInvalidArgument:
      return "invalid argument";
    case NcclResult::kInvalidUsage:
      return "invalid usage";
    case NcclResult::kRemoteError:
      return "remote error";
    case NcclResult::kInProgress:
      return "in progress";
  }
  return "unknown result code";
}

// NCCL ignores the communicator, too.
const char* GetLastError(NcclComm) {
  const std::lock_guard<std::mutex> lock(TheNccl().mutex);
  return TheNccl().misuses.empty() ? "" : TheNccl().misuses.back().c_str();
}

NcclResult AllReduce(const void* input, void* output, size_t count, NcclType type, NcclOp op,
                     NcclComm comm, CudaStream stream) {
  return ContractCall(comm, stream, {NcclFunction::kAllReduce, input, output, count, type, op});
}
NcclResult Reduce(const void* input, void* output, size_t count, NcclType type, NcclOp op, int root,
                  NcclComm comm, CudaStream stream) {
  return ContractCall(comm, stream, {NcclFunction::kReduce, input, output, count, type, op, root});
}
NcclResult ReduceScatter(const void* input, void* output, size_t count, NcclType type, NcclOp op,
                         NcclComm comm, CudaStream stream) {
  return ContractCall(comm, stream, {NcclFunction::kReduceScatter, input, output, count, type, op});
}
NcclResult AllGather(const void* input, void* output, size_t count, NcclType type, NcclComm comm,
                     CudaStream stream) {
  return ContractCall(comm, stream, {NcclFunction::kAllGather, input, output, count, type});
}
NcclResult Broadcast(const void* input, void* output, size_t count, NcclType type, int root,
                     NcclComm comm, CudaStream stream) {
  return ContractCall(comm, stream,
                      {NcclFunction::kBroadcast, input, output, count, type, NcclOp::kSum, root});
}
NcclResult Send(const void* input, size_t count, NcclType type, int peer, NcclComm comm,
                CudaStream stream) {
  return ContractCall(comm, stream,
                      {NcclFunction::kSend, input, nullptr, count, type, NcclOp::kSum, peer});
}
NcclResult Recv(void* output, size_t count, NcclType type, int peer, NcclComm comm,
                CudaStream stream) {
  return ContractCall(comm, stream,
                      {NcclFunction::kRecv, nullptr, output, count, type, NcclOp::kSum, peer});
}

}  // namespace

NcclState& TheNccl() {
  static auto* const state = new NcclState();
  return *state;
}

NcclResult Misuse(absl::string_view function, absl::string_view text, NcclResult result) {
  TheNccl().misuses.push_back(absl::StrCat(function, ": ", text));
  return result;
}

bool InProgress(const ncclComm& comm) {
  const bool complete =
      static_cast<int>(comm.clique->created.size()) == comm.clique->meetings.size();
  return comm.polls_left > 0 || comm.launching || comm.part != nullptr || !complete;
}

NcclResult CheckReady(absl::string_view function, const ncclComm* comm) {
  if (comm == nullptr) {
    return Misuse(function, "there is no communicator", NcclResult::kInvalidArgument);
  }
  if (comm->ended) {
    return Misuse(function, "the communicator has ended", NcclResult::kInvalidArgument);
  }
  if (!InProgress(*comm)) return NcclResult::kSuccess;
  return Misuse(function, "the communicator's last call is still in progress",
                NcclResult::kInvalidArgument);
}

NcclResult Planted(absl::string_view function) {
  const std::lock_guard<std::mutex> lock(TheNccl().mutex);
  const NcclBehavior& behavior = TheNccl().behavior;
  return behavior.failing_call == function ? behavior.failure : NcclResult::kSuccess;
}

void SetNcclBehavior(const NcclBehavior& behavior) {
  const std::lock_guard<std::mutex> lock(TheNccl().mutex);
  TheNccl().behavior = behavior;
}

CudaStreamPriority PriorityOfNcclKernels() {
  const std::lock_guard<std::mutex> lock(TheNccl().mutex);
  return TheNccl().priority;
}

std::vector<std::string> NcclMisuses() {
  NcclState& nccl = TheNccl();
  const std::lock_guard<std::mutex> lock(nccl.mutex);
  CheckNoOpenGroup();
  const std::vector<std::string> misuses(nccl.misuses.begin() + nccl.num_told, nccl.misuses.end());
  nccl.num_told = nccl.misuses.size();
  return misuses;
}

const NcclLibrary& ContractNccl() {
  static const NcclLibrary nccl = {.get_version = ContractGetVersion,
                                   .get_unique_id = ContractGetUniqueId,
                                   .comm_init_rank_config = ContractCommInitRankConfig,
                                   .comm_split = ContractCommSplit,
                                   .comm_destroy = ContractCommDestroy,
                                   .comm_abort = ContractCommAbort,
                                   .comm_get_async_error = ContractCommGetAsyncError,
                                   .get_error_string = GetErrorString,
                                   .get_last_error = GetLastError,
                                   .group_start = ContractGroupStart,
                                   .group_end = ContractGroupEnd,
                                   .all_reduce = AllReduce,
                                   .reduce = Reduce,
                                   .reduce_scatter = ReduceScatter,
                                   .all_gather = AllGather,
                                   .broadcast = Broadcast,
                                   .send = Send,
                                   .recv = Recv};
  return nccl;
}

}  // namespace strake::testing
