// What all functions of the contract NCCL share.
#ifndef STRAKE_PARALLEL_COMM_TESTING_NCCL_NCCL_STATE_H_
#define STRAKE_PARALLEL_COMM_TESTING_NCCL_NCCL_STATE_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/cuda/cuda_runtime.h"
#include "parallel/comm/nccl/nccl_library.h"
#include "parallel/comm/testing/nccl/contract_nccl.h"
#include "parallel/comm/testing/nccl/nccl_meetings.h"

namespace strake::testing {

// The ranks of a communicator.
struct NcclClique {
  explicit NcclClique(int size) : meetings(size), num_splits(size) {}

  NcclMeetings meetings;
  std::set<int> created, aborted;  // ranks
  struct Splitter {
    int color, key, rank;
    ncclComm* part;
  };
  std::vector<int64_t> num_splits;  // by rank
  std::map<int64_t, std::vector<Splitter>> splits;
};

}  // namespace strake::testing

// Lives as long as the process, so that a use after its end is found.
struct ncclComm {
  std::shared_ptr<strake::testing::NcclClique> clique;  // null until all ranks of a split arrived
  int rank = 0, device = 0;
  bool ended = false;
  int polls_left = 0;        // that find it in progress
  bool launching = false;    // the kernels of a group
  int num_unfinished = 0;    // kernels on streams
  ncclComm* part = nullptr;  // of a split in progress: the result, and where its caller wants it
  strake::NcclComm* wanted = nullptr;
  strake::NcclResult error = strake::NcclResult::kSuccess;
  std::thread launcher{};        // NCCL's own
  strake::CudaEvent launched{};  // after the last kernel
};

namespace strake::testing {

// The mutex guards all of it, communicators included. It is taken while the emulated GPU runs
// kernels, so nothing that holds it may call the GPU.
struct NcclState {
  std::mutex mutex;
  std::condition_variable changed;
  NcclBehavior behavior;
  std::deque<std::string> misuses;  // all that were ever found, so that their text stays
  size_t num_told = 0;
  CudaStreamPriority priority = CudaStreamPriority::kNormal;   // of the last kernel
  std::map<std::string, std::shared_ptr<NcclClique>> cliques;  // by unique id
};
NcclState& TheNccl();

// Records what was found, and returns `result`; called with the mutex held.
NcclResult Misuse(absl::string_view function, absl::string_view text,
                  NcclResult result = NcclResult::kInvalidUsage);

// Whether NCCL still works on an earlier call of the communicator; called with the mutex held.
bool InProgress(const ncclComm& comm);

// kSuccess if `function` may use the communicator; called with the mutex held.
NcclResult CheckReady(absl::string_view function, const ncclComm* comm);

// What `function` is to return instead of working; kSuccess: it works. Called without the mutex.
NcclResult Planted(absl::string_view function);

// nccl_comms.cc
NcclResult ContractGetVersion(int* version);
NcclResult ContractGetUniqueId(NcclUniqueId* id);
NcclResult ContractCommInitRankConfig(NcclComm* comm, int size, NcclUniqueId id, int rank,
                                      NcclConfig* config);
NcclResult ContractCommSplit(NcclComm comm, int color, int key, NcclComm* part, NcclConfig* config);
NcclResult ContractCommDestroy(NcclComm comm);
NcclResult ContractCommAbort(NcclComm comm);
NcclResult ContractCommGetAsyncError(NcclComm comm, NcclResult* error);

// nccl_groups.cc
NcclResult ContractGroupStart();
NcclResult ContractGroupEnd();
// Adds a call to the group, or makes it at once where there is none.
NcclResult ContractCall(NcclComm comm, CudaStream stream, NcclCall call);
// Reports and closes a group that the calling thread has left open; called with the mutex held.
void CheckNoOpenGroup();

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_COMM_TESTING_NCCL_NCCL_STATE_H_
