#include "models/initialize.h"

#include <complex>

#include "core/base/philox.h"
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

// Columns [first_column, first_column + segment.columns) of a parameter of `rows` rows.
void InitializeSegment(uint64_t seed, ThreadTeam& team, const Parameter& parameter,
                       const ParameterSegment& segment, int64_t first_column) {
  const int64_t stride = parameter.shape.back();
  const int64_t rows = parameter.num_elements() / stride;
  const Philox random(seed, RandomUse::kInitialWeights, StableHash(segment.name));
  const NormalInit init = parameter.init;
  team.ParallelFor(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t column = 0; column < segment.columns; ++column) {
        const int64_t index =
            segment.transposed ? column * rows + row : row * segment.columns + column;
        const double noise = init.stddev == 0 ? 0 : init.stddev * random.Normal(index);
        Store(parameter.value, row * stride + first_column + column, init.mean + noise);
      }
    }
  });
}

}  // namespace

void InitializeParameters(uint64_t seed, ThreadTeam& team, ParameterArena* arena) {
  for (const Parameter& parameter : arena->parameters()) {
    int64_t column = 0;
    for (const ParameterSegment& segment : parameter.segments) {
      InitializeSegment(seed, team, parameter, segment, column);
      column += segment.columns;
    }
  }
}

}  // namespace strake
