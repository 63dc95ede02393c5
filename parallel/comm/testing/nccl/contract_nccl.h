// NCCL's functions on the emulated GPU (//core/testing:emulated_gpu), which check each call against
// NCCL's header and documentation (2.28). For ranks that are threads of one process; ranks in other
// processes never arrive.
//
// As in NCCL, calls return before the other ranks have arrived, a split writes its communicator
// when all have, kernels wait for each other on their streams, and destroying and aborting wait for
// kernels. Sums are in rank order, each partial sum rounded; a max drops NaN.
//
// Found are, among others:
//   * a config, rank, count, type, operation, root or peer that cannot be
//   * a buffer outside of the communicator's device, not aligned, or that overlaps another one in
//     a way that is not NCCL's "in place"
//   * a communicator that is used before it is ready, while it is in progress, or after its end
//   * a group that is not ended, or ended twice; a send to oneself without its recv
//   * a stream that is used after ncclGroupEnd and before ncclSuccess, or whose capture ends then
//   * ranks whose collectives differ in function, count, type, operation, root or order, or that
//     capture one into a graph where others do not
//   * a split while the parent's kernels run
// Each is an error of the call, or of the GPU where only kernels can tell, and stands in
// NcclMisuses(). One group of a communicator uses one stream.
#ifndef STRAKE_PARALLEL_COMM_TESTING_NCCL_CONTRACT_NCCL_H_
#define STRAKE_PARALLEL_COMM_TESTING_NCCL_CONTRACT_NCCL_H_

#include <string>
#include <vector>

#include "core/cuda/cuda_runtime.h"
#include "parallel/comm/nccl/nccl_library.h"

namespace strake::testing {

const NcclLibrary& ContractNccl();

// What the library does that it may do, and rarely does.
struct NcclBehavior {
  // How often ncclCommGetAsyncError() says ncclInProgress after an init, a split and the end of a
  // group.
  int polls_in_progress = 0;
  // A thread of the library enqueues a group's kernels, after those polls; else ncclGroupEnd().
  bool own_thread = false;
  // Communicators are ready without the other ranks.
  bool start_alone = false;
  // What ncclCommGetAsyncError() reports for every communicator that is not in progress.
  NcclResult async_error = NcclResult::kSuccess;
  // The function that fails, such as "ncclAllReduce", and how.
  std::string failing_call{};
  NcclResult failure = NcclResult::kUnhandledCudaError;
};

// Changes the behavior of all later calls of this process.
void SetNcclBehavior(const NcclBehavior& behavior);

class ScopedNcclBehavior {
 public:
  explicit ScopedNcclBehavior(const NcclBehavior& behavior) { SetNcclBehavior(behavior); }
  ~ScopedNcclBehavior() { SetNcclBehavior({}); }
  ScopedNcclBehavior(const ScopedNcclBehavior&) = delete;
  ScopedNcclBehavior& operator=(const ScopedNcclBehavior&) = delete;
};

// Of the stream of the last kernel.
CudaStreamPriority PriorityOfNcclKernels();

// Returns what was found since the last call, a group that the calling thread left open included.
std::vector<std::string> NcclMisuses();

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_COMM_TESTING_NCCL_CONTRACT_NCCL_H_
