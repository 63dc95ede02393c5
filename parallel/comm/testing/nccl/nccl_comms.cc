// Communicators: how they begin, end and report.
#include <algorithm>
#include <climits>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/emulated_gpu.h"
#include "parallel/comm/testing/nccl/nccl_state.h"

namespace strake::testing {
namespace {

constexpr char kInit[] = "ncclCommInitRankConfig", kSplit[] = "ncclCommSplit";

bool Undefined(int value) { return value == INT_MIN; }

// What NCCL requires of a config of 2.18, whose fields come from version 2.14 to that.
absl::Status CheckConfig(const NcclConfig* config) {
  if (config == nullptr) return absl::InvalidArgumentError("there is no config");
  if (config->magic != 0xcafebeef || config->size != sizeof(NcclConfig) ||
      config->version < 21800) {
    return absl::InvalidArgumentError(absl::StrCat("the config has size ", config->size, ", magic ",
                                                   absl::Hex(config->magic), ", version ",
                                                   config->version));
  }
  if (config->blocking != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("blocking is ", config->blocking, ", and calls that block do not exist here"));
  }
  if (!Undefined(config->cga_cluster_size) &&
      (config->cga_cluster_size < 0 || config->cga_cluster_size > 8)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the cluster size is ", config->cga_cluster_size));
  }
  const int min_ctas = Undefined(config->min_ctas) ? 1 : config->min_ctas;
  const int max_ctas = Undefined(config->max_ctas) ? INT_MAX : config->max_ctas;
  if (min_ctas < 1 || max_ctas < min_ctas) {
    return absl::InvalidArgumentError(
        absl::StrCat("there are ", min_ctas, " to ", max_ctas, " CTAs"));
  }
  if (Undefined(config->split_share) || config->split_share == 0 || config->split_share == 1) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("split_share is ", config->split_share));
}

NcclResult Refuse(absl::string_view function, const absl::Status& status) {
  return Misuse(function, std::string(status.message()), NcclResult::kInvalidArgument);
}

// Called without the mutex, since it calls the GPU.
ncclComm* NewComm() {
  auto* const comm = new ncclComm();
  comm->device = CurrentEmulatedDevice();
  if (auto event = CudaEvent::Create(); event.ok()) comm->launched = *std::move(event);
  return comm;
}

// Gives each rank of a split its communicator.
void Part(std::vector<NcclClique::Splitter>& splitters) {
  std::sort(splitters.begin(), splitters.end(), [](const auto& a, const auto& b) {
    return std::tie(a.color, a.key, a.rank) < std::tie(b.color, b.key, b.rank);
  });
  for (auto begin = splitters.begin(); begin != splitters.end();) {
    const auto end = std::find_if(begin, splitters.end(), [&](const auto& splitter) {
      return splitter.color != begin->color;
    });
    const auto clique = std::make_shared<NcclClique>(static_cast<int>(end - begin));
    for (int rank = 0; begin != end; ++begin, ++rank) {
      begin->part->clique = clique;
      begin->part->rank = rank;
      clique->created.insert(rank);
    }
  }
}

// Ends the communicator, and waits, as NCCL does, for its last kernel.
NcclResult End(NcclComm comm) {
  if (comm->launcher.joinable()) comm->launcher.join();
  (void)comm->launched.Synchronize();
  return NcclResult::kSuccess;
}

}  // namespace

NcclResult ContractGetVersion(int* version) {
  *version = 22809;
  return NcclResult::kSuccess;
}

NcclResult ContractGetUniqueId(NcclUniqueId* id) {
  static int64_t count = 0;
  const std::lock_guard<std::mutex> lock(TheNccl().mutex);
  std::memset(id->bytes, 0, sizeof(id->bytes));
  std::memcpy(id->bytes, &++count, sizeof(count));
  return NcclResult::kSuccess;
}

NcclResult ContractCommInitRankConfig(NcclComm* comm, int size, NcclUniqueId id, int rank,
                                      NcclConfig* config) {
  if (const NcclResult planted = Planted(kInit); planted != NcclResult::kSuccess) return planted;
  ncclComm* const made = NewComm();
  const std::lock_guard<std::mutex> lock(TheNccl().mutex);
  if (const absl::Status valid = CheckConfig(config); !valid.ok()) return Refuse(kInit, valid);
  std::shared_ptr<NcclClique>& clique = TheNccl().cliques[std::string(id.bytes, sizeof(id.bytes))];
  if (clique == nullptr) clique = std::make_shared<NcclClique>(size);
  if (size != clique->meetings.size() || rank < 0 || rank >= size ||
      !clique->created.insert(rank).second) {
    return Misuse(kInit,
                  absl::StrCat("rank ", rank, " of ", size, " comes to a communicator of ",
                               clique->meetings.size(), " ranks, ", clique->created.size(),
                               " of which are there"),
                  NcclResult::kInvalidArgument);
  }
  if (TheNccl().behavior.start_alone) {
    for (int other = 0; other < size; ++other) clique->created.insert(other);
  }
  made->clique = clique;
  made->rank = rank;
  made->polls_left = TheNccl().behavior.polls_in_progress;
  *comm = made;
  return NcclResult::kInProgress;
}

NcclResult ContractCommSplit(NcclComm comm, int color, int key, NcclComm* part,
                             NcclConfig* config) {
  if (const NcclResult planted = Planted(kSplit); planted != NcclResult::kSuccess) return planted;
  ncclComm* const made = NewComm();
  const std::lock_guard<std::mutex> lock(TheNccl().mutex);
  const NcclResult ready = CheckReady(kSplit, comm);
  if (ready != NcclResult::kSuccess) return ready;
  if (const absl::Status valid = CheckConfig(config); !valid.ok()) return Refuse(kSplit, valid);
  if (color < 0) {
    return Misuse(kSplit, absl::StrCat("there is no color ", color), NcclResult::kInvalidArgument);
  }
  if (comm->num_unfinished > 0) {
    return Misuse(kSplit, absl::StrCat(comm->num_unfinished, " kernels of the parent still run"));
  }
  NcclClique& parent = *comm->clique;
  *part = nullptr;
  comm->part = made;
  comm->wanted = part;
  comm->polls_left = TheNccl().behavior.polls_in_progress;
  const int64_t number = parent.num_splits[comm->rank]++;
  auto& splitters = parent.splits[number];
  splitters.push_back({color, key, comm->rank, made});
  if (TheNccl().behavior.start_alone ||
      static_cast<int>(splitters.size()) == parent.meetings.size()) {
    Part(splitters);
    parent.splits.erase(number);
  }
  return NcclResult::kInProgress;
}

NcclResult ContractCommDestroy(NcclComm comm) {
  {
    const std::lock_guard<std::mutex> lock(TheNccl().mutex);
    const NcclResult ready = CheckReady("ncclCommDestroy", comm);
    if (ready != NcclResult::kSuccess) return ready;
    comm->ended = true;
  }
  return End(comm);
}

NcclResult ContractCommAbort(NcclComm comm) {
  {
    const std::lock_guard<std::mutex> lock(TheNccl().mutex);
    if (comm->ended) return Misuse("ncclCommAbort", "the communicator has ended");
    comm->ended = true;
    comm->clique->aborted.insert(comm->rank);
    TheNccl().changed.notify_all();
  }
  return End(comm);
}

NcclResult ContractCommGetAsyncError(NcclComm comm, NcclResult* error) {
  const std::lock_guard<std::mutex> lock(TheNccl().mutex);
  if (comm == nullptr || comm->ended) {
    return Misuse("ncclCommGetAsyncError", "there is no communicator, or it has ended",
                  NcclResult::kInvalidArgument);
  }
  *error = NcclResult::kInProgress;
  if (comm->polls_left > 0) {
    --comm->polls_left;
    TheNccl().changed.notify_all();
    return NcclResult::kSuccess;
  }
  if (comm->part != nullptr && comm->part->clique != nullptr) {
    *comm->wanted = std::exchange(comm->part, nullptr);
  }
  if (InProgress(*comm)) return NcclResult::kSuccess;
  *error = comm->error != NcclResult::kSuccess ? comm->error : TheNccl().behavior.async_error;
  return NcclResult::kSuccess;
}

}  // namespace strake::testing
