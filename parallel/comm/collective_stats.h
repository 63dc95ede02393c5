// CollectiveStats: a rank's collectives in a group, in calls and logical payload bytes.
#ifndef STRAKE_PARALLEL_COMM_COLLECTIVE_STATS_H_
#define STRAKE_PARALLEL_COMM_COLLECTIVE_STATS_H_

#include <array>
#include <cstdint>

#include "parallel/comm/collective_call.h"

namespace strake {

// Payload bytes of one call, on one rank: the buffer for all-reduce, broadcast, send and recv; the
// input for reduce-scatter and all-to-all; the output for all-gather; none for barrier and split.
// Bytes on the wire follow from them: a ring's all-reduce moves 2 (N - 1) / N of the payload.
class CollectiveStats {
 public:
  struct Entry {
    int64_t calls = 0;
    int64_t bytes = 0;
    bool operator==(const Entry&) const = default;
  };

  void Add(CollectiveKind kind, int64_t bytes) {
    Entry& entry = entries_[static_cast<int>(kind)];
    ++entry.calls;
    entry.bytes += bytes;
  }
  void Clear() { entries_ = {}; }

  const Entry& operator[](CollectiveKind kind) const { return entries_[static_cast<int>(kind)]; }
  Entry Total() const {
    Entry total;
    for (const Entry& entry : entries_) {
      total.calls += entry.calls;
      total.bytes += entry.bytes;
    }
    return total;
  }
  bool operator==(const CollectiveStats&) const = default;

 private:
  std::array<Entry, kNumCollectiveKinds> entries_{};
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_COLLECTIVE_STATS_H_
