#include "parallel/comm/testing/fake_nccl.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/emulated_gpu.h"
#include "glog/logging.h"

namespace {

using strake::NcclComm;
using strake::NcclConfig;
using strake::NcclOp;
using strake::NcclResult;
using strake::NcclType;
using strake::NcclUniqueId;

enum class What { kAllReduce, kReduce, kReduceScatter, kAllGather, kBroadcast, kSend, kRecv };

struct Call {
  What what;
  const void* input;
  void* output;
  size_t count;
  NcclType type;
  NcclOp op = NcclOp::kSum;
  int peer = -1;  // or the root
};

// A collective that ranks have arrived at, or a message of one or both of its ends.
struct Meeting {
  std::map<int, Call> calls;  // by rank; of a message: 0 the sender's, 1 the receiver's
  bool done = false;
};

struct Clique {
  int size = 0, num_created = 0;
  std::set<int> aborted;                             // ranks
  std::vector<int64_t> num_collectives, num_splits;  // by rank
  std::map<int64_t, std::shared_ptr<Meeting>> collectives;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Meeting>>> messages;
  struct Splitter {
    int color, key, rank;
    ncclComm* part;
  };
  std::map<int64_t, std::vector<Splitter>> splits;
};

}  // namespace

struct ncclComm {
  std::shared_ptr<Clique> clique;  // null until all ranks of a split have arrived
  int rank = 0;
  ncclComm* part = nullptr;  // of a split in progress: the result, and where its caller wants it
  NcclComm* wanted = nullptr;
  strake::CudaEvent launched{};  // after the last kernel
};

namespace strake::testing {
namespace {

// One lock for everything.
std::mutex mutex;
NcclResult async_error = NcclResult::kSuccess;
bool start_alone = false;

std::map<std::string, std::shared_ptr<Clique>>& Cliques() {
  static auto* const cliques = new std::map<std::string, std::shared_ptr<Clique>>();
  return *cliques;
}

struct Grouped {
  ncclComm* comm;
  CudaStream stream;
  Call call;
};
thread_local int group_depth = 0;
thread_local std::vector<Grouped> grouped;

size_t Bytes(NcclType type) {
  switch (type) {
    case NcclType::kInt8:
      return 1;
    case NcclType::kBfloat16:
      return 2;
    case NcclType::kInt32:
    case NcclType::kFloat32:
      return 4;
    default:
      return 8;
  }
}

// --- Reductions. ---

template <typename T>
T Combined(NcclOp op, T a, T b) {
  if (op == NcclOp::kSum) return a + b;
  if constexpr (std::is_floating_point_v<T>) return std::fmax(a, b);
  return std::max(a, b);
}

Bf16 Combined(NcclOp op, Bf16 a, Bf16 b) {
  return Bf16(Combined(op, static_cast<float>(a), static_cast<float>(b)));
}

template <typename T>
std::vector<char> ReducedAs(const Meeting& meeting, size_t begin, size_t count) {
  std::vector<T> result(count);
  for (const auto& [rank, call] : meeting.calls) {
    const T* const input = static_cast<const T*>(call.input) + begin;
    for (size_t i = 0; i < count; ++i) {
      result[i] = rank == 0 ? input[i] : Combined(call.op, result[i], input[i]);
    }
  }
  const char* const bytes = reinterpret_cast<const char*>(result.data());
  return std::vector<char>(bytes, bytes + count * sizeof(T));
}

std::vector<char> Reduced(const Meeting& meeting, size_t begin, size_t count) {
  switch (meeting.calls.begin()->second.type) {
    case NcclType::kFloat32:
      return ReducedAs<float>(meeting, begin, count);
    case NcclType::kFloat64:
      return ReducedAs<double>(meeting, begin, count);
    case NcclType::kBfloat16:
      return ReducedAs<Bf16>(meeting, begin, count);
    case NcclType::kInt32:
      return ReducedAs<int32_t>(meeting, begin, count);
    case NcclType::kInt64:
      return ReducedAs<int64_t>(meeting, begin, count);
    case NcclType::kInt8:
      break;
  }
  LOG(FATAL) << "no reduction of bytes is asked for";
}

void Put(const std::vector<char>& bytes, void* to) {
  if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
}

std::vector<char> Taken(const void* from, size_t num_bytes) {
  const char* const bytes = static_cast<const char*>(from);
  return std::vector<char>(bytes, bytes + num_bytes);
}

// --- Meetings, with the lock held. ---

void Perform(const Meeting& meeting) {
  const Call& first = meeting.calls.at(0);
  const int size = static_cast<int>(meeting.calls.size());
  const size_t bytes = first.count * Bytes(first.type);
  for (const auto& [rank, call] : meeting.calls) {
    CHECK(call.what == first.what && call.count == first.count && call.type == first.type &&
          call.op == first.op && call.peer == first.peer)
        << "ranks 0 and " << rank << " call different things";
  }
  switch (first.what) {
    case What::kAllReduce: {
      const std::vector<char> result = Reduced(meeting, 0, first.count);
      for (const auto& [rank, call] : meeting.calls) Put(result, call.output);
      return;
    }
    case What::kReduce:
      return Put(Reduced(meeting, 0, first.count), meeting.calls.at(first.peer).output);
    case What::kReduceScatter: {
      const std::vector<char> result = Reduced(meeting, 0, first.count * size);
      for (const auto& [rank, call] : meeting.calls) {
        Put(Taken(result.data() + rank * bytes, bytes), call.output);
      }
      return;
    }
    case What::kAllGather: {
      std::vector<char> result;
      for (const auto& [rank, call] : meeting.calls) {
        const std::vector<char> piece = Taken(call.input, bytes);
        result.insert(result.end(), piece.begin(), piece.end());
      }
      for (const auto& [rank, call] : meeting.calls) Put(result, call.output);
      return;
    }
    case What::kBroadcast: {
      const std::vector<char> result = Taken(meeting.calls.at(first.peer).input, bytes);
      for (const auto& [rank, call] : meeting.calls) Put(result, call.output);
      return;
    }
    case What::kSend:
    case What::kRecv:
      LOG(FATAL) << "a message is no collective";
  }
}

std::shared_ptr<Meeting> MeetCollective(Clique& clique, int rank, const Call& call) {
  const int64_t number = clique.num_collectives[rank]++;
  std::shared_ptr<Meeting>& entry = clique.collectives[number];
  if (entry == nullptr) entry = std::make_shared<Meeting>();
  const std::shared_ptr<Meeting> meeting = entry;
  meeting->calls.emplace(rank, call);
  if (static_cast<int>(meeting->calls.size()) == clique.size) {
    clique.collectives.erase(number);
    Perform(*meeting);
    meeting->done = true;
  }
  return meeting;
}

std::shared_ptr<Meeting> MeetMessage(Clique& clique, int rank, const Call& call) {
  const bool sends = call.what == What::kSend;
  auto& queue =
      clique.messages[sends ? std::make_pair(rank, call.peer) : std::make_pair(call.peer, rank)];
  const int side = sends ? 0 : 1;
  for (auto at = queue.begin(); at != queue.end(); ++at) {
    const std::shared_ptr<Meeting> meeting = *at;
    if (meeting->calls.count(side) > 0) continue;
    meeting->calls.emplace(side, call);
    const Call &from = meeting->calls.at(0), &to = meeting->calls.at(1);
    CHECK_EQ(from.count * Bytes(from.type), to.count * Bytes(to.type)) << "a message's bytes";
    Put(Taken(from.input, from.count * Bytes(from.type)), to.output);
    meeting->done = true;
    queue.erase(at);
    return meeting;
  }
  queue.push_back(std::make_shared<Meeting>());
  queue.back()->calls.emplace(side, call);
  return queue.back();
}

// A kernel of NCCL: the calls of a group.
struct Kernel {
  std::shared_ptr<Clique> clique;
  int rank;
  std::vector<Call> calls;
  std::vector<std::shared_ptr<Meeting>> meetings;  // while it runs

  absl::Status Run() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (clique->aborted.count(rank) > 0) return absl::OkStatus();
    if (meetings.empty()) {
      // A rank that aborts ends its own kernels alone, and its memory may already be freed.
      if (!clique->aborted.empty()) return absl::UnavailableError("others have aborted");
      for (const Call& call : calls) {
        const bool message = call.what == What::kSend || call.what == What::kRecv;
        meetings.push_back(message ? MeetMessage(*clique, rank, call)
                                   : MeetCollective(*clique, rank, call));
      }
    }
    for (const auto& meeting : meetings) {
      if (!meeting->done) return absl::UnavailableError("others have not come");
    }
    meetings.clear();
    return absl::OkStatus();
  }
};

// --- The functions. ---

NcclResult GetVersion(int* version) {
  *version = 22809;
  return NcclResult::kSuccess;
}

NcclResult GetUniqueId(NcclUniqueId* id) {
  static int64_t count = 0;
  const std::lock_guard<std::mutex> lock(mutex);
  std::memset(id->bytes, 0, sizeof(id->bytes));
  std::memcpy(id->bytes, &++count, sizeof(count));
  return NcclResult::kSuccess;
}

void Enter(const std::shared_ptr<Clique>& clique, int size) {
  clique->size = size;
  clique->num_collectives.resize(size);
  clique->num_splits.resize(size);
}

ncclComm* NewComm() {
  auto* const comm = new ncclComm();
  comm->launched = CudaEvent::Create().value();
  return comm;
}

NcclResult CommInitRankConfig(NcclComm* comm, int size, NcclUniqueId id, int rank,
                              NcclConfig* config) {
  CHECK(config->blocking == 0 && config->magic == 0xcafebeef);
  const std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<Clique>& clique = Cliques()[std::string(id.bytes, sizeof(id.bytes))];
  if (clique == nullptr) clique = std::make_shared<Clique>();
  Enter(clique, size);
  clique->num_created = start_alone ? size : clique->num_created + 1;
  *comm = NewComm();
  (*comm)->clique = clique;
  (*comm)->rank = rank;
  return NcclResult::kInProgress;
}

NcclResult CommSplit(NcclComm comm, int color, int key, NcclComm* part, NcclConfig* config) {
  CHECK(config->blocking == 0 && color >= 0);
  const std::lock_guard<std::mutex> lock(mutex);
  Clique& parent = *comm->clique;
  *part = nullptr;
  CHECK(comm->part == nullptr) << "a split during a split";
  comm->part = NewComm();
  comm->wanted = part;
  const int64_t number = parent.num_splits[comm->rank]++;
  auto& splitters = parent.splits[number];
  splitters.push_back({color, key, comm->rank, comm->part});
  if (!start_alone && static_cast<int>(splitters.size()) < parent.size) {
    return NcclResult::kInProgress;
  }
  std::sort(splitters.begin(), splitters.end(), [](const auto& a, const auto& b) {
    return std::tie(a.color, a.key, a.rank) < std::tie(b.color, b.key, b.rank);
  });
  std::map<int, std::shared_ptr<Clique>> cliques;
  for (const Clique::Splitter& splitter : splitters) {
    std::shared_ptr<Clique>& clique = cliques[splitter.color];
    if (clique == nullptr) clique = std::make_shared<Clique>();
    splitter.part->clique = clique;
    splitter.part->rank = clique->size;
    Enter(clique, clique->size + 1);
    ++clique->num_created;
  }
  parent.splits.erase(number);
  return NcclResult::kInProgress;
}

// Blocks, as NCCL's do, until the last kernel has ended.
NcclResult CommDestroy(NcclComm comm) {
  (void)comm->launched.Synchronize();  // an error if it is part of a graph
  delete comm;
  return NcclResult::kSuccess;
}

NcclResult CommAbort(NcclComm comm) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    comm->clique->aborted.insert(comm->rank);
  }
  return CommDestroy(comm);
}

NcclResult CommGetAsyncError(NcclComm comm, NcclResult* error) {
  const std::lock_guard<std::mutex> lock(mutex);
  bool ready = comm->clique->num_created >= comm->clique->size;
  if (comm->part != nullptr) {
    ready = comm->part->clique != nullptr;
    if (ready) *comm->wanted = std::exchange(comm->part, nullptr);
  }
  *error = ready ? async_error : NcclResult::kInProgress;
  return NcclResult::kSuccess;
}

const char* GetErrorString(NcclResult) { return "a fake error"; }
const char* GetLastError(NcclComm) { return ""; }

NcclResult GroupStart() {
  ++group_depth;
  return NcclResult::kSuccess;
}

NcclResult GroupEnd() {
  CHECK_GT(group_depth, 0);
  if (--group_depth > 0 || grouped.empty()) return NcclResult::kSuccess;
  auto kernel = std::make_shared<Kernel>();
  ncclComm* const comm = grouped[0].comm;
  kernel->clique = comm->clique;
  kernel->rank = comm->rank;
  const CudaStream stream = grouped[0].stream;
  for (const Grouped& each : grouped) {
    CHECK(each.comm == comm && each.stream == stream);
    kernel->calls.push_back(each.call);
  }
  grouped.clear();
  CHECK(EnqueueOnEmulatedGpu(stream, "NCCL", [kernel] { return kernel->Run(); }).ok());
  CHECK(comm->launched.Record(stream).ok());
  return NcclResult::kInProgress;
}

NcclResult Add(NcclComm comm, CudaStream stream, const Call& call) {
  CHECK_GT(group_depth, 0);
  grouped.push_back({comm, stream, call});
  return NcclResult::kInProgress;
}

NcclResult AllReduce(const void* input, void* output, size_t count, NcclType type, NcclOp op,
                     NcclComm comm, CudaStream stream) {
  return Add(comm, stream, {What::kAllReduce, input, output, count, type, op});
}
NcclResult Reduce(const void* input, void* output, size_t count, NcclType type, NcclOp op, int root,
                  NcclComm comm, CudaStream stream) {
  return Add(comm, stream, {What::kReduce, input, output, count, type, op, root});
}
NcclResult ReduceScatter(const void* input, void* output, size_t count, NcclType type, NcclOp op,
                         NcclComm comm, CudaStream stream) {
  return Add(comm, stream, {What::kReduceScatter, input, output, count, type, op});
}
NcclResult AllGather(const void* input, void* output, size_t count, NcclType type, NcclComm comm,
                     CudaStream stream) {
  return Add(comm, stream, {What::kAllGather, input, output, count, type});
}
NcclResult Broadcast(const void* input, void* output, size_t count, NcclType type, int root,
                     NcclComm comm, CudaStream stream) {
  return Add(comm, stream, {What::kBroadcast, input, output, count, type, NcclOp::kSum, root});
}
NcclResult Send(const void* input, size_t count, NcclType type, int peer, NcclComm comm,
                CudaStream stream) {
  return Add(comm, stream, {What::kSend, input, nullptr, count, type, NcclOp::kSum, peer});
}
NcclResult Recv(void* output, size_t count, NcclType type, int peer, NcclComm comm,
                CudaStream stream) {
  return Add(comm, stream, {What::kRecv, nullptr, output, count, type, NcclOp::kSum, peer});
}

}  // namespace

const NcclLibrary& FakeNccl() {
  static const NcclLibrary nccl = {.get_version = GetVersion,
                                   .get_unique_id = GetUniqueId,
                                   .comm_init_rank_config = CommInitRankConfig,
                                   .comm_split = CommSplit,
                                   .comm_destroy = CommDestroy,
                                   .comm_abort = CommAbort,
                                   .comm_get_async_error = CommGetAsyncError,
                                   .get_error_string = GetErrorString,
                                   .get_last_error = GetLastError,
                                   .group_start = GroupStart,
                                   .group_end = GroupEnd,
                                   .all_reduce = AllReduce,
                                   .reduce = Reduce,
                                   .reduce_scatter = ReduceScatter,
                                   .all_gather = AllGather,
                                   .broadcast = Broadcast,
                                   .send = Send,
                                   .recv = Recv};
  return nccl;
}

void SetFakeNcclAsyncError(NcclResult result) {
  const std::lock_guard<std::mutex> lock(mutex);
  async_error = result;
}

void LetFakeNcclStartAlone(bool alone) {
  const std::lock_guard<std::mutex> lock(mutex);
  start_alone = alone;
}

}  // namespace strake::testing
