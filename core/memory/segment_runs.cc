#include "core/memory/segment_runs.h"

#include <algorithm>

namespace strake {

void ForEachSegmentRun(const Parameter& parameter, const ShardRange& range,
                       absl::FunctionRef<bool(const ParameterSegment&)> wanted,
                       absl::FunctionRef<void(const ShardRange& run)> visit) {
  const auto visit_overlap = [&](int64_t begin, int64_t end) {
    const ShardRange run{std::max(begin, range.begin), std::min(end, range.end)};
    if (run.begin < run.end) visit(run);
  };
  const int64_t parameter_end = parameter.offset + parameter.num_elements();
  if (range.end <= parameter.offset || parameter_end <= range.begin) return;
  const size_t num_wanted =
      std::count_if(parameter.segments.begin(), parameter.segments.end(), wanted);
  if (num_wanted == 0) return;
  if (num_wanted == parameter.segments.size()) {
    visit_overlap(parameter.offset, parameter_end);
    return;
  }
  for (int64_t at = parameter.offset; at < parameter_end;) {
    for (const ParameterSegment& segment : parameter.segments) {
      if (wanted(segment)) visit_overlap(at, at + segment.columns);
      at += segment.columns;
    }
  }
}

}  // namespace strake
