// How a matrix product is cut into blocks for the threads of a team.
#ifndef STRAKE_CORE_OPS_CPU_MATMUL_GRID_H_
#define STRAKE_CORE_OPS_CPU_MATMUL_GRID_H_

#include <cstdint>

#include "core/ops/cpu/blocked_matmul.h"

namespace strake::cpu {

// Blocks that cover c [m, n], of about the same size, none empty: the largest that the kernel
// takes, but as many for one thread as for another, as far as c allows.
class MatmulGrid {
 public:
  // m, n > 0.
  MatmulGrid(int64_t m, int64_t n, int num_threads);

  int64_t num_blocks() const { return rows_.count * columns_.count; }
  // Block `index`, below num_blocks().
  MatmulRange Block(int64_t index) const;

 private:
  // One side of c in grains, whole tiles of the kernel, dealt out to `count` parts.
  struct Side {
    int64_t size, grain, count;
    int64_t NumGrains() const { return (size + grain - 1) / grain; }
    int64_t Begin(int64_t part) const;
    bool CanSplit() const { return count < NumGrains(); }
    double PartSize() const { return double(size) / count; }
  };

  void SplitOnce();

  Side rows_, columns_;
};

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_CPU_MATMUL_GRID_H_
