#include "models/checkpoint/hf_slice.h"

#include <algorithm>

#include "core/base/dtype.h"
#include "glog/logging.h"

namespace strake {
namespace {

// The number of elements in memory at a time: 1 MB, less than a core's cache.
constexpr int64_t kBufferElements = 1 << 18;

// A cache line of f32: transposing uses square tiles of this side, so that each line on either side
// is loaded once.
constexpr int64_t kTile = 16;

// out[c, r] = in[r, c] for `rows` by `columns` elements of `in`, through a tile that stays in
// registers and cache, since strides that are powers of two would evict one line by the next.
template <typename In, typename Out>
void Transpose(const In* in, int64_t in_stride, int64_t rows, int64_t columns, Out* out,
               int64_t out_stride) {
  Out tile[kTile][kTile];
  for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
    const int64_t height = std::min(kTile, rows - r0);
    for (int64_t c0 = 0; c0 < columns; c0 += kTile) {
      const int64_t width = std::min(kTile, columns - c0);
      for (int64_t r = 0; r < height; ++r) {
        const In* row = in + (r0 + r) * in_stride + c0;
        for (int64_t c = 0; c < width; ++c) tile[c][r] = static_cast<Out>(row[c]);
      }
      for (int64_t c = 0; c < width; ++c) {
        std::copy_n(tile[c], height, out + (c0 + c) * out_stride + r0);
      }
    }
  }
}

template <typename In, typename Out>
void CopyRows(const In* in, int64_t in_stride, int64_t rows, int64_t columns, Out* out,
              int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      out[r * out_stride + c] = static_cast<Out>(in[r * in_stride + c]);
    }
  }
}

// Calls body(data) with the array's elements as their type.
template <typename Body>
void WithType(const Tensor& values, Body&& body) {
  switch (values.dtype()) {
    case DType::kF32:
      return body(values.data<float>());
    case DType::kF64:
      return body(values.data<double>());
    case DType::kBf16:
      return body(values.data<Bf16>());
    default:
      LOG(FATAL) << "[hf_slice] no weights in " << values.ToString();
  }
}

// The index in the array of the first element of line `line` of the slice.
int64_t LineIndex(const HfSlice& slice, int64_t line, int64_t origin) {
  return origin + slice.position + (slice.transposed ? line : line * slice.stride);
}

HfSlice SliceOf(const ParameterRecord& record, const ParameterSegment& segment, int64_t column) {
  CHECK_LE(record.shape().size(), 2u)
      << "[hf_slice] " << segment.name << " " << ShapeString(record.shape());
  const SegmentSlice& part = segment.slice;
  const bool matrix = record.shape().size() == 2;
  HfSlice slice{.name = segment.name,
                .transposed = matrix && segment.transposed,
                .rows = part.num_rows,
                .columns = segment.columns,
                .stride = record.shape().back(),
                .position = column,
                .row_begin = part.row_begin,
                .column_begin = part.column_begin};
  if (!matrix) {
    slice.file_shape = {part.full_columns};
  } else if (slice.transposed) {
    slice.file_shape = {part.full_columns, part.full_rows};
  } else {
    slice.file_shape = {part.full_rows, part.full_columns};
  }
  return slice;
}

// Returns true if the columns of `next`, which follow those of `slice` in the parameter, follow
// them in the tensor too.
bool Continues(const HfSlice& slice, const HfSlice& next) {
  return slice.name == next.name && slice.transposed == next.transposed &&
         slice.row_begin == next.row_begin && slice.rows == next.rows &&
         slice.column_begin + slice.columns == next.column_begin;
}

}  // namespace

int64_t HfSlice::LinesAtATime() const {
  // Counts whole lines, since their pages come into memory with the slice's; in whole tiles.
  const int64_t lines = kBufferElements / std::max<int64_t>(full_line_elements(), 1);
  return std::max(lines / kTile * kTile, kTile);
}

HfSlice HfSlice::Block(int64_t row, int64_t num_rows, int64_t column, int64_t num_columns) const {
  HfSlice block = *this;
  block.rows = num_rows;
  block.columns = num_columns;
  block.position += row * stride + column;
  block.row_begin += row;
  block.column_begin += column;
  return block;
}

std::vector<HfSlice> HfSlicesOf(const ParameterRecord& record) {
  std::vector<HfSlice> slices;
  int64_t column = 0;
  for (const ParameterSegment& segment : record.segments) {
    HfSlice slice = SliceOf(record, segment, column);
    if (!slices.empty() && Continues(slices.back(), slice)) {
      slices.back().columns += slice.columns;
    } else {
      slices.push_back(std::move(slice));
    }
    column += segment.columns;
  }
  return slices;
}

std::vector<HfSlice> HfSlicesWithin(const HfSlice& slice, int64_t begin, int64_t end) {
  std::vector<HfSlice> blocks;
  if (slice.rows == 0 || slice.columns == 0) return blocks;
  begin = std::max<int64_t>(begin - slice.position, 0);
  end = std::max<int64_t>(end - slice.position, 0);
  const auto add_row = [&](int64_t row) {
    const int64_t from = std::max<int64_t>(begin - row * slice.stride, 0);
    const int64_t to = std::min(end - row * slice.stride, slice.columns);
    if (from < to) blocks.push_back(slice.Block(row, 1, from, to - from));
  };
  // Rows [first, last) are whole; only the row before and the row after may have a part.
  const int64_t first = std::min((begin + slice.stride - 1) / slice.stride, slice.rows);
  const int64_t last = std::min((end - slice.columns + slice.stride) / slice.stride, slice.rows);
  if (first > 0) add_row(first - 1);
  if (first < last) blocks.push_back(slice.Block(first, last - first, 0, slice.columns));
  if (first <= last && last < slice.rows) add_row(last);
  return blocks;
}

void PlaceLines(const float* lines, const HfSlice& slice, int64_t first, int64_t count,
                int64_t origin, const Tensor& values) {
  const int64_t line = slice.line_elements();
  WithType(values, [&](auto* array) {
    auto* to = array + LineIndex(slice, first, origin);
    if (slice.transposed) {
      Transpose(lines, line, count, line, to, slice.stride);
    } else {
      CopyRows(lines, line, count, line, to, slice.stride);
    }
  });
}

void TakeLines(const Tensor& values, const HfSlice& slice, int64_t first, int64_t count,
               float* lines) {
  const int64_t line = slice.line_elements(), full_line = slice.full_line_elements();
  float* to = lines + slice.line_begin();
  WithType(values, [&](const auto* array) {
    const auto* from = array + LineIndex(slice, first, /*origin=*/0);
    if (slice.transposed) {
      Transpose(from, slice.stride, line, count, to, full_line);
    } else {
      CopyRows(from, slice.stride, count, line, to, full_line);
    }
  });
}

}  // namespace strake
