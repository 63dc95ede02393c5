#include "core/ops/cpu/matmul.h"

namespace strake::cpu {

bool Matmul(const ThreadTeam&, const float*, const float*, int64_t, int64_t, int64_t,
            const MatmulOptions&, float*) {
  return false;
}

}  // namespace strake::cpu
