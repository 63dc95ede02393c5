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

namespace {

void AddRow(const ShardRange& row, std::vector<SegmentBlock>* blocks) {
  if (!blocks->empty() && blocks->back().columns == row.size()) {
    SegmentBlock& block = blocks->back();
    const int64_t stride = row.begin - (block.end() - block.columns);
    if (block.rows == 1) block.stride = stride;
    if (block.stride == stride) {
      ++block.rows;
      return;
    }
  }
  blocks->push_back({.begin = row.begin, .columns = row.size(), .rows = 1, .stride = row.size()});
}

}  // namespace

std::vector<SegmentBlock> SegmentBlocks(const Parameter& parameter, const ShardRange& range,
                                        absl::FunctionRef<bool(const ParameterSegment&)> wanted) {
  std::vector<SegmentBlock> blocks;
  ShardRange row;
  ForEachSegmentRun(parameter, range, wanted, [&](const ShardRange& run) {
    if (row.size() > 0 && run.begin == row.end) {
      row.end = run.end;
      return;
    }
    if (row.size() > 0) AddRow(row, &blocks);
    row = run;
  });
  if (row.size() > 0) AddRow(row, &blocks);
  return blocks;
}

}  // namespace strake
