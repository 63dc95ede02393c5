#include "train/engine/arena_fingerprint.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "core/ops/fingerprint/fingerprint.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"

namespace strake {
namespace {

// A segment within its parameter.
struct SegmentPlace {
  const ParameterSegment& segment;
  int64_t begin;   // of its first element, in the index space
  int64_t stride;  // between its rows
};

// Adds `columns` of `rows`, both counted within the segment.
absl::Status AddRows(const Context& ctx, const ArenaArray& array, const SegmentPlace& at,
                     const ShardRange& rows, const ShardRange& columns, const Tensor& sums) {
  if (rows.size() <= 0 || columns.size() <= 0) return absl::OkStatus();
  const SegmentSlice& slice = at.segment.slice;
  const int64_t begin = at.begin + rows.begin * at.stride + columns.begin - array.begin;
  const int64_t end = begin + (rows.size() - 1) * at.stride + columns.size();
  const FingerprintBlock block = {
      .place = {.key = StableHash(absl::StrCat(at.segment.name, array.suffix)),
                .row = slice.row_begin + rows.begin,
                .column = slice.column_begin + columns.begin},
      .rows = rows.size(),
      .columns = columns.size(),
      .stride = at.stride};
  return AddFingerprint(ctx, array.values.Rows(begin, end), block, sums);
}

// Adds the part of a segment within the array's range: its whole rows as one block, and the rows at
// both ends of the range that are cut.
absl::Status AddSegment(const Context& ctx, const ArenaArray& array, const SegmentPlace& at,
                        const Tensor& sums) {
  const int64_t columns = at.segment.columns, num_rows = at.segment.slice.num_rows;
  // The row that holds index i, or that comes next; and the column of i within a row.
  const auto row_of = [&](int64_t i) {
    if (i <= at.begin) return int64_t{0};
    const int64_t row = (i - at.begin) / at.stride;
    return std::min(num_rows, i - at.begin - row * at.stride >= columns ? row + 1 : row);
  };
  const auto column_of = [&](int64_t i, int64_t row) {
    return std::clamp<int64_t>(i - at.begin - row * at.stride, 0, columns);
  };
  ShardRange rows = {row_of(array.begin), row_of(array.end())};
  const int64_t first = column_of(array.begin, rows.begin), last = column_of(array.end(), rows.end);
  if (rows.begin == num_rows) return absl::OkStatus();
  if (rows.begin == rows.end) {
    return AddRows(ctx, array, at, {rows.begin, rows.begin + 1}, {first, last}, sums);
  }
  if (first > 0) {
    STRAKE_RETURN_IF_ERROR(
        AddRows(ctx, array, at, {rows.begin, rows.begin + 1}, {first, columns}, sums));
    ++rows.begin;
  }
  if (rows.end < num_rows) {
    STRAKE_RETURN_IF_ERROR(AddRows(ctx, array, at, {rows.end, rows.end + 1}, {0, last}, sums));
  }
  return AddRows(ctx, array, at, rows, {0, columns}, sums);
}

}  // namespace

absl::StatusOr<Fingerprint> FingerprintOfArrays(
    const Context& ctx, const ParameterArena& parameters, absl::Span<const ArenaArray> arrays,
    absl::FunctionRef<bool(const ParameterSegment&)> wanted) {
  STRAKE_ASSIGN_OR_RETURN(
      const DeviceBuffer sums,
      DeviceBuffer::Create(ctx.arena().device(), DType::kI64, {kFingerprintSums, 2}));
  for (const ArenaArray& array : arrays) {
    for (const ParameterRecord& record : parameters.records()) {
      int64_t begin = record.offset;
      const int64_t stride = record.shape().back();
      for (const ParameterSegment& segment : record.segments) {
        if (wanted(segment)) {
          STRAKE_RETURN_IF_ERROR(AddSegment(ctx, array, {segment, begin, stride}, sums.tensor()));
        }
        begin += segment.columns;
      }
    }
  }
  STRAKE_ASSIGN_OR_RETURN(const HostCopy host, HostCopy::Of(sums.tensor()));
  return TotalFingerprint(host);
}

}  // namespace strake
