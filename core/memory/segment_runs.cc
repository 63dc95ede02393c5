#include "core/memory/segment_runs.h"

#include <algorithm>

namespace strake {

void ForEachSegmentRun(const ParameterRecord& record, const ShardRange& range,
                       absl::FunctionRef<bool(const ParameterSegment&)> wanted,
                       absl::FunctionRef<void(const ShardRange& run)> visit) {
  const auto visit_overlap = [&](int64_t begin, int64_t end) {
    const ShardRange run{std::max(begin, range.begin), std::min(end, range.end)};
    if (run.begin < run.end) visit(run);
  };
  if (range.end <= record.offset || record.end() <= range.begin) return;
  const size_t num_wanted = std::count_if(record.segments.begin(), record.segments.end(), wanted);
  if (num_wanted == 0) return;
  if (num_wanted == record.segments.size()) {
    visit_overlap(record.offset, record.end());
    return;
  }
  for (int64_t at = record.offset; at < record.end();) {
    for (const ParameterSegment& segment : record.segments) {
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

std::vector<SegmentBlock> SegmentBlocks(const ParameterRecord& record, const ShardRange& range,
                                        absl::FunctionRef<bool(const ParameterSegment&)> wanted) {
  std::vector<SegmentBlock> blocks;
  ShardRange row;
  ForEachSegmentRun(record, range, wanted, [&](const ShardRange& run) {
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
