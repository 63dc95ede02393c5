// Matrix product in f32 through oneDNN. See core/ops/matmul.h for the contract.
#ifndef STRAKE_CORE_OPS_CPU_MATMUL_H_
#define STRAKE_CORE_OPS_CPU_MATMUL_H_

#include <cstdint>

#include "core/base/thread_team.h"
#include "core/ops/matmul.h"

namespace strake::cpu {

// c [m, n] = or += op(a) [m, k] op(b) [k, n], none of the three sizes 0; whatever else `options`
// have is left to do. Returns false, having done nothing, in a build without oneDNN.
//
// Primitives are kept per calling thread, so the first call with a shape costs more.
bool Matmul(const ThreadTeam& team, const float* a, const float* b, int64_t m, int64_t n, int64_t k,
            const MatmulOptions& options, float* c);

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_CPU_MATMUL_H_
