// Runs of elements that belong to selected segments of a parameter.
//
// A segment is a set of columns, so in the index space it is one run per row. If all segments of a
// parameter are wanted, they form a single run, which includes rows of padding.
#ifndef STRAKE_CORE_MEMORY_SEGMENT_RUNS_H_
#define STRAKE_CORE_MEMORY_SEGMENT_RUNS_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/shard_range.h"

namespace strake {

// Calls visit(run), in order, for every run of the wanted segments that overlaps `range`, cut to
// it. Both are in the index space. No run is empty.
void ForEachSegmentRun(const ParameterRecord& record, const ShardRange& range,
                       absl::FunctionRef<bool(const ParameterSegment&)> wanted,
                       absl::FunctionRef<void(const ShardRange& run)> visit);

// Rows of `columns` elements that begin `stride` elements apart, the first at `begin`. The stride
// of a single row is its length.
struct SegmentBlock {
  int64_t begin = 0;
  int64_t columns = 0;
  int64_t rows = 0;
  int64_t stride = 0;

  int64_t num_elements() const { return rows * columns; }
  int64_t end() const { return begin + (rows - 1) * stride + columns; }
  bool operator==(const SegmentBlock&) const = default;
};

// Returns the elements of those runs, in order, as few blocks: runs that touch become one row.
std::vector<SegmentBlock> SegmentBlocks(const ParameterRecord& record, const ShardRange& range,
                                        absl::FunctionRef<bool(const ParameterSegment&)> wanted);

}  // namespace strake

#endif  // STRAKE_CORE_MEMORY_SEGMENT_RUNS_H_
