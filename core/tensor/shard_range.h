// ShardRange: the indices of a dimension, or of an index space, that a rank holds.
#ifndef STRAKE_CORE_TENSOR_SHARD_RANGE_H_
#define STRAKE_CORE_TENSOR_SHARD_RANGE_H_

#include <cstdint>

namespace strake {

// The indices [begin, end).
struct ShardRange {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t size() const { return end - begin; }
  bool Contains(int64_t index) const { return begin <= index && index < end; }
  bool operator==(const ShardRange&) const = default;
};

}  // namespace strake

#endif  // STRAKE_CORE_TENSOR_SHARD_RANGE_H_
