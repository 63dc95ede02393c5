// CollectiveCall: what one rank hands to an implementation of Communicator, and what ranks compare
// to find out that they are not in the same collective.
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

// Counts are in elements. Fields that a kind has no use for keep their defaults.
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
  std::shared_ptr<CollectiveTiming> timing = {};  // null: nobody times it

  // "all_gather #3 of f32[1024] in pieces of 1000, 24 at models/block.cc:40"; of a tensor on a GPU
  // with ", on a GPU" behind it.
  std::string ToString() const;
};

// Whether rank `rank`, in `a`, and rank `other_rank`, in `b`, call the same collective with dtypes,
// devices and counts that fit: a send fits its recv, and every other kind itself. Call sites may
// differ.
bool CallsAgree(int rank, const CollectiveCall& a, int other_rank, const CollectiveCall& b);

// "1, 2, 3".
std::string JoinCounts(absl::Span<const int64_t> counts);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_COLLECTIVE_CALL_H_
