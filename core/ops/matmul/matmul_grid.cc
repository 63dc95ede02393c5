#include "core/ops/matmul/matmul_grid.h"

namespace strake::cpu {
namespace {

int NumBlocks(int64_t size, int64_t largest) {
  return static_cast<int>((size + largest - 1) / largest);
}

bool CanSplit(const ThreadRanges& side) { return side.count < side.chunks; }

double PartSize(const ThreadRanges& side) { return double(side.n) / side.count; }

}  // namespace

MatmulGrid::MatmulGrid(int64_t m, int64_t n, int num_threads, const MatmulBlockLimits& limits)
    : rows_(m, limits.row_grain, NumBlocks(m, limits.rows)),
      columns_(n, limits.column_grain, NumBlocks(n, limits.columns)) {
  // From this many blocks on, it does not matter whether all threads get the same number.
  const int64_t many = 8 * num_threads;
  while (num_blocks() < many && num_blocks() % num_threads != 0 &&
         (CanSplit(rows_) || CanSplit(columns_))) {
    SplitOnce();
  }
}

void MatmulGrid::SplitOnce() {
  // Splits the longer side of a block: the smaller the sum of both sides, the less is copied.
  const bool columns =
      CanSplit(columns_) && (!CanSplit(rows_) || PartSize(columns_) >= PartSize(rows_));
  ++(columns ? columns_ : rows_).count;
}

MatmulRange MatmulGrid::Block(int64_t index) const {
  const int row = static_cast<int>(index % rows_.count);
  const int column = static_cast<int>(index / rows_.count);
  return {rows_.Begin(row), rows_.End(row), columns_.Begin(column), columns_.End(column)};
}

}  // namespace strake::cpu
