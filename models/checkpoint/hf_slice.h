// HfSlice: the location of a parameter's elements in a tensor of Hugging Face's layout.
//
// The tensor is [out, in] where the segment is `transposed` and [in, out] otherwise, or
// one-dimensional. Either way it consists of lines, one after the other in the file. A slice is
//
//   line_elements() elements, from line_begin() on, of each of num_lines() lines from first_line()
//
// whichever part of the whole tensor the parameter holds.
#ifndef STRAKE_MODELS_CHECKPOINT_HF_SLICE_H_
#define STRAKE_MODELS_CHECKPOINT_HF_SLICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"

namespace strake {

// A matrix within the parameter, [rows, columns] with `stride` between rows.
struct HfSlice {
  std::string name;
  Shape file_shape = {};  // of the whole tensor
  bool transposed = false;
  int64_t rows = 0, columns = 0, stride = 0;
  int64_t position = 0;                     // in the parameter, of the first element
  int64_t row_begin = 0, column_begin = 0;  // of the first element in the whole tensor, [in, out]

  int64_t num_lines() const { return transposed ? columns : rows; }
  int64_t first_line() const { return transposed ? column_begin : row_begin; }
  int64_t line_elements() const { return transposed ? rows : columns; }
  int64_t line_begin() const { return transposed ? row_begin : column_begin; }
  // Line elements and lines of the whole tensor.
  int64_t full_line_elements() const { return file_shape.back(); }
  int64_t num_full_lines() const { return file_shape.size() == 1 ? 1 : file_shape[0]; }

  // How many lines are held in memory at a time.
  int64_t LinesAtATime() const;

  // The block of rows [row, row + num_rows) and columns [column, column + num_columns).
  HfSlice Block(int64_t row, int64_t num_rows, int64_t column, int64_t num_columns) const;
};

// The slices of a parameter, one per segment; neighbours that continue each other in one tensor are
// one slice. Slices of one tensor are neighbours. No slice contains padding.
std::vector<HfSlice> HfSlicesOf(const ParameterRecord& record);

// The elements of `slice` that are in [begin, end) of the parameter: at most three blocks, since
// the first and the last row may be cut.
std::vector<HfSlice> HfSlicesWithin(const HfSlice& slice, int64_t begin, int64_t end);

// Copies lines [first, first + count) of the slice, [count, line_elements()], into `values`.
// `origin` is the index in `values` of the parameter's first element; negative where `values` begin
// inside the parameter. f32, f64 or bf16.
void PlaceLines(const float* lines, const HfSlice& slice, int64_t first, int64_t count,
                int64_t origin, const Tensor& values);

// The inverse, of a whole parameter's values: copies those lines to the places that they have in
// lines of the whole tensor, `lines` [count, full_line_elements()].
void TakeLines(const Tensor& values, const HfSlice& slice, int64_t first, int64_t count,
               float* lines);

}  // namespace strake

#endif  // STRAKE_MODELS_CHECKPOINT_HF_SLICE_H_
