// Cuts a matrix product into blocks for the threads of a team.
#ifndef STRAKE_CORE_OPS_MATMUL_MATMUL_GRID_H_
#define STRAKE_CORE_OPS_MATMUL_MATMUL_GRID_H_

#include <cstdint>

#include "core/base/thread_ranges.h"
#include "core/ops/matmul/blocked_matmul_cpu.h"

namespace strake::cpu {

// The blocks that a kernel takes.
struct MatmulBlockLimits {
  int64_t row_grain, column_grain;  // the sides are multiples, but for the last blocks
  int64_t rows, columns;            // the largest block
};

inline constexpr MatmulBlockLimits kBlockedMatmulLimits = {kMatmulRowGrain, kMatmulColumnGrain,
                                                           kMatmulBlockRows, kMatmulBlockColumns};

// Non-empty blocks of about the same size that cover c [m, n]. They are the largest that the kernel
// takes, subject to giving each thread the same number of blocks, as far as c allows.
class MatmulGrid {
 public:
  // m, n > 0.
  MatmulGrid(int64_t m, int64_t n, int num_threads, const MatmulBlockLimits& limits);

  int64_t num_blocks() const { return int64_t{rows_.count} * columns_.count; }
  // Block `index`, below num_blocks(); blocks of the same columns are neighbours.
  MatmulRange Block(int64_t index) const;

 private:
  void SplitOnce();

  // Cut in whole grains.
  ThreadRanges rows_, columns_;
};

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_MATMUL_MATMUL_GRID_H_
