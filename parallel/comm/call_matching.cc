#include "parallel/comm/call_matching.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

using Kind = CollectiveKind;

// A petabyte of the largest elements, and far from where sums of counts overflow.
constexpr int64_t kMaxElements = int64_t{1} << 50;

absl::Status Wrong(const char* field, int64_t value, const std::string& expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("its call has ", field, " ", value, ", and not ", expected));
}

absl::Status CheckRange(const char* field, int64_t value, int64_t begin, int64_t end) {
  if (value >= begin && value < end) return absl::OkStatus();
  return Wrong(field, value, absl::StrCat("one from ", begin, " to ", end - 1));
}

// The sum of counts, of which there is one per rank.
absl::StatusOr<int64_t> SumOfCounts(const char* field, const std::vector<int64_t>& counts,
                                    int size) {
  if (static_cast<int>(counts.size()) != size) {
    return Wrong("a number of counts of", static_cast<int64_t>(counts.size()),
                 absl::StrCat("one for each of ", size, " ranks"));
  }
  int64_t sum = 0;
  for (const int64_t count : counts) {
    STRAKE_RETURN_IF_ERROR(CheckRange(field, count, 0, kMaxElements + 1));
    sum += count;
    STRAKE_RETURN_IF_ERROR(CheckRange("a sum of counts of", sum, 0, kMaxElements + 1));
  }
  return sum;
}

absl::Status CheckCounts(const CollectiveCall& call, int rank, int size) {
  const bool exchange = call.kind == Kind::kAllToAll;
  const bool cut =
      exchange || call.kind == Kind::kReduceScatterSum || call.kind == Kind::kAllGather;
  STRAKE_ASSIGN_OR_RETURN(const int64_t sum,
                          SumOfCounts("a count of", call.counts, cut ? size : 0));
  STRAKE_RETURN_IF_ERROR(SumOfCounts("a count of", call.recv_counts, exchange ? size : 0).status());
  if (cut && sum != call.count) {
    return Wrong("a sum of counts of", sum, absl::StrCat(call.count));
  }
  // What it keeps; the other pairs of counts are compared between ranks.
  if (exchange && call.counts[rank] != call.recv_counts[rank]) {
    return Wrong("for itself a count of", call.counts[rank], absl::StrCat(call.recv_counts[rank]));
  }
  return absl::OkStatus();
}

absl::Status CheckPeer(const CollectiveCall& call, int rank, int size) {
  const bool message = call.kind == Kind::kSend || call.kind == Kind::kRecv;
  if (!message && call.kind != Kind::kBroadcast) {
    return CheckRange("the peer", call.peer, -1, 0);
  }
  STRAKE_RETURN_IF_ERROR(CheckRange("the peer", call.peer, 0, size));
  if (message && call.peer == rank) return Wrong("the peer", call.peer, "another rank");
  return absl::OkStatus();
}

}  // namespace

std::pair<int, int> SenderAndReceiver(int rank, const CollectiveCall& call) {
  if (call.kind == Kind::kSend) return {rank, call.peer};
  if (call.kind == Kind::kRecv) return {call.peer, rank};
  return {-1, -1};
}

absl::Status CheckCall(const CollectiveCall& call, int rank, int size) {
  STRAKE_RETURN_IF_ERROR(
      CheckRange("the kind", static_cast<int>(call.kind), 0, kNumCollectiveKinds));
  STRAKE_RETURN_IF_ERROR(
      CheckRange("the dtype", static_cast<int>(call.dtype), 0, static_cast<int>(DType::kU16) + 1));
  STRAKE_RETURN_IF_ERROR(CheckRange("the device", static_cast<int>(call.device), 0,
                                    static_cast<int>(Device::kCuda) + 1));
  if (call.kind == Kind::kAllReduceMax && call.dtype == DType::kC128) {
    return Wrong("the dtype", static_cast<int>(call.dtype), "one that has an order");
  }
  // -1 is that of the meeting in a new group.
  STRAKE_RETURN_IF_ERROR(CheckRange("the sequence number", call.sequence, -1, INT64_MAX));
  STRAKE_RETURN_IF_ERROR(CheckRange("a count of", call.count, 0, kMaxElements + 1));
  STRAKE_RETURN_IF_ERROR(CheckPeer(call, rank, size));
  return CheckCounts(call, rank, size);
}

absl::Status RanksDisagree(int rank, const CollectiveCall& call, int other_rank,
                           const CollectiveCall& other) {
  if (rank > other_rank) return RanksDisagree(other_rank, other, rank, call);
  return absl::FailedPreconditionError(absl::StrCat("ranks disagree: rank ", rank, " called ",
                                                    call.ToString(), "; rank ", other_rank,
                                                    " called ", other.ToString()));
}

absl::Status RankLeft(int rank, const std::string& axis, const CollectiveCall& call) {
  return absl::AbortedError(
      absl::StrCat("rank ", rank, " of axis ", axis, " left the group before ", call.ToString()));
}

}  // namespace strake
