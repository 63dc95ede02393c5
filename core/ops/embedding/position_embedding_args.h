// The positions of rows, as the kernels of the position embedding take them.
#ifndef STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_ARGS_H_
#define STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_ARGS_H_

#include <cstdint>

namespace strake {

// Row n is at position (offset + n) mod period, or at given[n].
struct RowPositions {
  // Always inlined, for core/ops/cpu/isa.h.
  [[gnu::always_inline]] int64_t operator()(int64_t row) const {
    return given != nullptr ? given[row] : (offset + row) % period;
  }

  int64_t period, offset;
  const int32_t* given = nullptr;
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_ARGS_H_
