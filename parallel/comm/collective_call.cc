#include "parallel/comm/collective_call.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace strake {

const char* CollectiveName(CollectiveKind kind) {
  static constexpr const char* kNames[kNumCollectiveKinds] = {
      "all_reduce_sum", "all_reduce_max", "reduce_scatter_sum",
      "all_gather",     "broadcast",      "all_to_all",
      "send",           "recv",           "barrier",
      "split"};
  return kNames[static_cast<int>(kind)];
}

std::string JoinCounts(absl::Span<const int64_t> counts) { return absl::StrJoin(counts, ", "); }

std::string CollectiveCall::ToString() const {
  std::string text = absl::StrCat(CollectiveName(kind), " #", sequence);
  if (kind != CollectiveKind::kBarrier && kind != CollectiveKind::kSplit) {
    absl::StrAppend(&text, " of ", DTypeName(dtype), "[", count, "]");
  }
  if (!counts.empty()) absl::StrAppend(&text, " in pieces of ", JoinCounts(counts));
  if (!recv_counts.empty()) absl::StrAppend(&text, " for pieces of ", JoinCounts(recv_counts));
  if (kind == CollectiveKind::kBroadcast || kind == CollectiveKind::kRecv) {
    absl::StrAppend(&text, " from rank ", peer);
  }
  if (kind == CollectiveKind::kSend) absl::StrAppend(&text, " to rank ", peer);
  absl::StrAppend(&text, " at ", site.file, ":", site.line);
  if (device == Device::kCuda) absl::StrAppend(&text, ", on a GPU");
  return text;
}

bool CallsAgree(int rank, const CollectiveCall& a, int other_rank, const CollectiveCall& b) {
  if (a.sequence != b.sequence || a.dtype != b.dtype || a.device != b.device) return false;
  if (a.kind == CollectiveKind::kSend || a.kind == CollectiveKind::kRecv) {
    return a.kind != b.kind &&
           (b.kind == CollectiveKind::kSend || b.kind == CollectiveKind::kRecv) &&
           a.peer == other_rank && b.peer == rank && a.count == b.count;
  }
  if (a.kind != b.kind) return false;
  if (a.kind == CollectiveKind::kAllToAll) {
    return a.counts[other_rank] == b.recv_counts[rank] &&
           a.recv_counts[other_rank] == b.counts[rank];
  }
  return a.count == b.count && a.peer == b.peer && a.counts == b.counts;
}

}  // namespace strake
