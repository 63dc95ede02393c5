// The product of one row with a matrix, in f32: what generation is made of. Memory is the limit.
#ifndef STRAKE_CORE_OPS_CPU_MATVEC_H_
#define STRAKE_CORE_OPS_CPU_MATVEC_H_

#include <cstdint>

#include "core/base/thread_team.h"

namespace strake::cpu {

// c [n] = or += a [k] op(b) [k, n], with b stored [n, k] when transposed.
void MatVec(ThreadTeam& team, const float* a, const float* b, int64_t n, int64_t k,
            bool transpose_b, bool accumulate, float* c);

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_CPU_MATVEC_H_
