// CollectiveCall: what one rank passes to an implementation of Communicator. Ranks compare their
// calls to detect that they are in different collectives.
#ifndef STRAKE_PARALLEL_COMM_COLLECTIVE_CALL_H_
#define STRAKE_PARALLEL_COMM_COLLECTIVE_CALL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "core/base/dtype.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/call_site.h"
#include "parallel/comm/collective_timing.h"

namespace strake {

enum class CollectiveKind : uint8_t {
  kAllReduceSum,
  kAllReduceMax,
  kReduceScatterSum,
  kAllGather,
  kBroadcast,
  kAllToAll,
  kSend,
  kRecv,
  kBarrier,
  kSplit,
};
inline constexpr int kNumCollectiveKinds = 10;

// "all_reduce_sum", "all_gather", ...
const char* CollectiveName(CollectiveKind kind);

// Counts are in elements. Fields that a kind does not use keep their defaults.
struct CollectiveCall {
  CollectiveKind kind;
  // The group's n-th collective, from 0; for send and recv, the n-th message from that sender to
  // that receiver.
  int64_t sequence = 0;
  DType dtype = DType::kF32;
  Device device = Device::kCpu;
  int64_t count = 0;                 // elements of `input`; of `output` for kAllGather and kRecv
  int peer = -1;                     // broadcast: the root; send and recv: the other rank
  std::vector<int64_t> counts = {};  // reduce-scatter, all-gather, all-to-all: of input's pieces
  std::vector<int64_t> recv_counts = {};  // all-to-all: of output's pieces
  int color = 0, key = 0;                 // split
  const void* input = nullptr;
  void* output = nullptr;
  CallSite site = {};
  std::shared_ptr<CollectiveTiming> timing = {};  // null: not timed

  // "all_gather #3 of f32[1024] in pieces of 1000, 24 at models/block.cc:40"; for a tensor on a GPU
  // followed by ", on a GPU".
  std::string ToString() const;
};

// Returns true if rank `rank`, with call `a`, and rank `other_rank`, with call `b`, are in the same
// collective with matching dtypes, devices and counts. A send matches its recv; every other kind
// matches itself. Call sites may differ.
bool CallsAgree(int rank, const CollectiveCall& a, int other_rank, const CollectiveCall& b);

// "1, 2, 3".
std::string JoinCounts(absl::Span<const int64_t> counts);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_COLLECTIVE_CALL_H_
