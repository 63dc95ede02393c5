// Groups of calls, and their kernels.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/emulated_gpu.h"
#include "parallel/comm/testing/nccl/nccl_state.h"

namespace strake::testing {
namespace {

constexpr char kGroupEnd[] = "ncclGroupEnd";

// A kernel of NCCL: the calls of a group on one communicator.
struct Kernel {
  ncclComm* comm;
  std::shared_ptr<NcclClique> clique;
  CudaStream stream;
  EmulatedStream when_called;
  std::vector<NcclCall> calls{};
  std::vector<std::shared_ptr<NcclMeeting>> meetings{};  // while it runs

  bool captured() const { return when_called.capture != 0; }

  absl::Status Run() {
    const std::lock_guard<std::mutex> lock(TheNccl().mutex);
    absl::Status status = Advance();
    if (absl::IsUnavailable(status)) return status;
    meetings.clear();
    if (!captured()) --comm->num_unfinished;
    if (!status.ok()) Misuse("NCCL's kernel", std::string(status.message()));
    return status;
  }

 private:
  absl::Status Advance() {
    if (clique->aborted.count(comm->rank) > 0) return absl::OkStatus();
    if (comm->ended && captured()) {
      return absl::InvalidArgumentError("runs in a graph after the end of its communicator");
    }
    if (meetings.empty()) {
      // A rank that aborts ends its own kernels alone, and its memory may already be freed.
      if (!clique->aborted.empty()) return absl::UnavailableError("others have aborted");
      for (const NcclCall& call : calls) {
        STRAKE_ASSIGN_OR_RETURN(auto meeting, clique->meetings.Meet(comm->rank, call));
        meetings.push_back(std::move(meeting));
      }
    }
    for (const auto& meeting : meetings) {
      if (!meeting->done) return absl::UnavailableError("others have not come");
    }
    return absl::OkStatus();
  }
};

// The group that a thread has started.
struct Group {
  int depth = 0;
  NcclResult error = NcclResult::kSuccess;  // the first of its calls
  std::vector<std::shared_ptr<Kernel>> kernels;

  ~Group() {
    const std::lock_guard<std::mutex> lock(TheNccl().mutex);
    Check();
  }
  // Called with the mutex held.
  void Check() {
    if (depth == 0) return;
    Misuse("ncclGroupStart", absl::StrCat("has no ncclGroupEnd, and neither have the calls of ",
                                          kernels.size(), " communicators after it"));
    Clear();
  }
  void Clear() {
    depth = 0;
    error = NcclResult::kSuccess;
    kernels.clear();
  }
};
thread_local Group the_group;

absl::Status CheckMessagesToItself(const Kernel& kernel) {
  const auto count = [&](NcclFunction function) {
    return std::count_if(kernel.calls.begin(), kernel.calls.end(), [&](const NcclCall& call) {
      return call.function == function && call.peer == kernel.comm->rank;
    });
  };
  if (count(NcclFunction::kSend) == count(NcclFunction::kRecv)) return absl::OkStatus();
  return absl::InvalidArgumentError("a message to oneself needs its other end in the same group");
}

// The order on the host, with the mutex held.
absl::Status Issue(const Kernel& kernel) {
  STRAKE_RETURN_IF_ERROR(CheckMessagesToItself(kernel));
  for (const NcclCall& call : kernel.calls) {
    STRAKE_RETURN_IF_ERROR(kernel.clique->meetings.Issue(kernel.comm->rank, call));
  }
  return absl::OkStatus();
}

// Whether the caller has kept its hands off the stream.
absl::Status CheckStream(const Kernel& kernel) {
  const EmulatedStream now = DescribeEmulatedStream(kernel.stream);
  if (now.capture != kernel.when_called.capture) {
    return absl::InvalidArgumentError(
        "a capture of the stream began or ended before the communicator was ncclSuccess");
  }
  if (now.num_calls == kernel.when_called.num_calls) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "the stream was used before the communicator was ncclSuccess: its kernels come later");
}

// Puts the kernel on its stream.
NcclResult Enqueue(const std::shared_ptr<Kernel>& kernel) {
  ncclComm& comm = *kernel->comm;
  absl::Status status = CheckStream(*kernel);
  const bool misused = !status.ok();
  if (!misused) {
    status = EnqueueOnEmulatedGpu(kernel->stream, "NCCL", [kernel] { return kernel->Run(); });
  }
  if (status.ok() && !kernel->captured()) status = comm.launched.Record(kernel->stream);
  const std::lock_guard<std::mutex> lock(TheNccl().mutex);
  comm.launching = false;
  TheNccl().changed.notify_all();
  if (status.ok()) return NcclResult::kInProgress;
  if (!kernel->captured()) --comm.num_unfinished;
  const std::string text(status.message());
  return comm.error = misused ? Misuse(kGroupEnd, text) : NcclResult::kUnhandledCudaError;
}

// The thread of the library's own, which waits for as many polls as were asked for.
void LaunchLater(const std::shared_ptr<Kernel>& kernel) {
  ncclComm& comm = *kernel->comm;
  {
    std::unique_lock<std::mutex> lock(TheNccl().mutex);
    TheNccl().changed.wait(lock, [&] { return comm.polls_left == 0 || comm.ended; });
    if (comm.ended) return;
  }
  (void)SetCudaDevice(comm.device);
  (void)Enqueue(kernel);
}

NcclResult Launch(const std::shared_ptr<Kernel>& kernel) {
  ncclComm& comm = *kernel->comm;
  // The thread before has launched, or the communicator would still be in progress.
  if (comm.launcher.joinable()) comm.launcher.join();
  bool own_thread;
  {
    const std::lock_guard<std::mutex> lock(TheNccl().mutex);
    const absl::Status issued = Issue(*kernel);
    if (!issued.ok()) return comm.error = Misuse(kGroupEnd, std::string(issued.message()));
    comm.launching = true;
    TheNccl().priority = kernel->when_called.priority;
    comm.polls_left = TheNccl().behavior.polls_in_progress;
    own_thread = TheNccl().behavior.own_thread;
    if (!kernel->captured()) ++comm.num_unfinished;
  }
  if (!own_thread) return Enqueue(kernel);
  comm.launcher = std::thread(LaunchLater, kernel);
  return NcclResult::kInProgress;
}

NcclResult AddToGroup(NcclComm comm, CudaStream stream, const EmulatedStream& where,
                      const NcclCall& call) {
  const auto found = std::find_if(the_group.kernels.begin(), the_group.kernels.end(),
                                  [&](const auto& kernel) { return kernel->comm == comm; });
  if (found == the_group.kernels.end()) {
    the_group.kernels.push_back(
        std::make_shared<Kernel>(Kernel{comm, comm->clique, stream, where}));
    the_group.kernels.back()->calls.push_back(call);
    return NcclResult::kSuccess;
  }
  if ((*found)->stream != stream) {
    const std::lock_guard<std::mutex> lock(TheNccl().mutex);
    return Misuse(NcclFunctionName(call.function), "the group uses another stream, too");
  }
  (*found)->calls.push_back(call);
  return NcclResult::kSuccess;
}

// Checks the call, and adds it.
NcclResult Add(NcclComm comm, CudaStream stream, NcclCall call) {
  const char* const name = NcclFunctionName(call.function);
  {
    const std::lock_guard<std::mutex> lock(TheNccl().mutex);
    const NcclResult ready = CheckReady(name, comm);
    if (ready != NcclResult::kSuccess) return ready;
  }
  const EmulatedStream where = DescribeEmulatedStream(stream);
  call.captured = where.capture != 0;
  absl::Status status =
      CheckNcclCall(call, comm->rank, comm->clique->meetings.size(), comm->device);
  if (where.device != comm->device) {
    status = absl::InvalidArgumentError(absl::StrCat("the stream is of GPU ", where.device,
                                                     ", the communicator of GPU ", comm->device));
  }
  if (status.ok()) return AddToGroup(comm, stream, where, call);
  const std::lock_guard<std::mutex> lock(TheNccl().mutex);
  return Misuse(name, std::string(status.message()), NcclResult::kInvalidArgument);
}

}  // namespace

NcclResult ContractGroupStart() {
  const NcclResult planted = Planted("ncclGroupStart");
  if (planted == NcclResult::kSuccess) ++the_group.depth;
  return planted;
}

NcclResult ContractGroupEnd() {
  if (the_group.depth == 0) {
    const std::lock_guard<std::mutex> lock(TheNccl().mutex);
    return Misuse(kGroupEnd, "has no ncclGroupStart");
  }
  if (--the_group.depth > 0) return NcclResult::kSuccess;
  const auto kernels = std::exchange(the_group.kernels, {});
  NcclResult result = std::exchange(the_group.error, NcclResult::kSuccess);
  if (result == NcclResult::kSuccess) result = Planted(kGroupEnd);
  if (result != NcclResult::kSuccess) return result;
  for (const auto& kernel : kernels) {
    result = Launch(kernel);
    if (result != NcclResult::kInProgress) return result;
  }
  return result;
}

NcclResult ContractCall(NcclComm comm, CudaStream stream, NcclCall call) {
  const bool alone = the_group.depth == 0;
  if (alone) ++the_group.depth;
  NcclResult result = Planted(NcclFunctionName(call.function));
  if (result == NcclResult::kSuccess) result = Add(comm, stream, call);
  if (the_group.error == NcclResult::kSuccess) the_group.error = result;
  return alone ? ContractGroupEnd() : result;
}

void CheckNoOpenGroup() { the_group.Check(); }

}  // namespace strake::testing
