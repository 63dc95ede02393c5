#include "models/initialize.h"

#include <algorithm>
#include <complex>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "glog/logging.h"

namespace strake {
namespace {

void Store(const Tensor& x, int64_t i, double value) {
  switch (x.dtype()) {
    case DType::kF32:
      x.data<float>()[i] = static_cast<float>(value);
      return;
    case DType::kBf16:
      x.data<Bf16>()[i] = Bf16(static_cast<float>(value));
      return;
    case DType::kF64:
      x.data<double>()[i] = value;
      return;
    case DType::kC128:
      x.data<std::complex<double>>()[i] = value;
      return;
    default:
      LOG(FATAL) << "[initialize] " << x.ToString();
  }
}

// values[i] = that of element `first + i`.
void InitialValues(const Philox& random, const WeightInit& init, int64_t first,
                   absl::Span<double> values) {
  if (init.stddev != 0) {
    random.Normals(first, values);
    for (double& value : values) value *= init.stddev;
  } else {
    std::fill(values.begin(), values.end(), 0.0);
  }
  for (size_t i = 0; i < values.size(); ++i) {
    if (init.bound != 0) values[i] += init.bound * (2 * random.Uniform(first + i) - 1);
    values[i] += init.mean;
  }
}

// Initializes columns [first_column, first_column + segment.columns) of a parameter's `values`, row
// by row of the tensor that Hugging Face stores: there the indices are consecutive.
void InitializeSegment(uint64_t seed, ThreadTeam& team, const ParameterSegment& segment,
                       const WeightInit& init, int64_t first_column, const Tensor& values) {
  const SegmentSlice& slice = segment.slice;
  int64_t hf_rows = slice.num_rows, hf_columns = segment.columns;
  int64_t first_hf_row = slice.row_begin, first_hf_column = slice.column_begin;
  int64_t full_hf_columns = slice.full_columns;
  int64_t row_step = values.dim(-1), column_step = 1;  // in the parameter
  if (segment.transposed) {
    std::swap(hf_rows, hf_columns);
    std::swap(first_hf_row, first_hf_column);
    std::swap(row_step, column_step);
    full_hf_columns = slice.full_rows;
  }
  const Philox random(seed, RandomUse::kInitialWeights, StableHash(segment.name));
  team.ParallelFor(hf_rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<double> row_values(hf_columns);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t index = (first_hf_row + row) * full_hf_columns + first_hf_column;
      InitialValues(random, init, index, absl::MakeSpan(row_values));
      for (int64_t column = 0; column < hf_columns; ++column) {
        Store(values, first_column + row * row_step + column * column_step, row_values[column]);
      }
    }
  });
}

}  // namespace

absl::Status InitializeParameters(uint64_t seed, ThreadTeam& team, ParameterArena* arena) {
  for (const ParameterRecord& record : arena->records()) {
    STRAKE_ASSIGN_OR_RETURN(const HostCopy values, HostCopy::Of(record.parameter.value));
    int64_t column = 0;
    for (const ParameterSegment& segment : record.segments) {
      InitializeSegment(seed, team, segment, record.init, column, values);
      column += segment.columns;
    }
    STRAKE_RETURN_IF_ERROR(values.WriteBack());
  }
  return absl::OkStatus();
}

}  // namespace strake
