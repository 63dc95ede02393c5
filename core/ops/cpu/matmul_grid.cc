#include "core/ops/cpu/matmul_grid.h"

#include <algorithm>

namespace strake::cpu {
namespace {

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

MatmulGrid::MatmulGrid(int64_t m, int64_t n, int num_threads)
    : rows_{m, kMatmulRowGrain, CeilDivide(m, kMatmulBlockRows)},
      columns_{n, kMatmulColumnGrain, CeilDivide(n, kMatmulBlockColumns)} {
  // From so many on it does not matter whether all threads get the same number.
  const int64_t many = 8 * num_threads;
  while (num_blocks() < many && num_blocks() % num_threads != 0 &&
         (rows_.CanSplit() || columns_.CanSplit())) {
    SplitOnce();
  }
}

void MatmulGrid::SplitOnce() {
  // The longer side of a block: the shorter the two together, the less is copied.
  const bool columns =
      columns_.CanSplit() && (!rows_.CanSplit() || columns_.PartSize() >= rows_.PartSize());
  ++(columns ? columns_ : rows_).count;
}

int64_t MatmulGrid::Side::Begin(int64_t part) const {
  return std::min(size, NumGrains() * part / count * grain);
}

MatmulRange MatmulGrid::Block(int64_t index) const {
  const int64_t row = index / columns_.count, column = index % columns_.count;
  return {rows_.Begin(row), rows_.Begin(row + 1), columns_.Begin(column),
          columns_.Begin(column + 1)};
}

}  // namespace strake::cpu
