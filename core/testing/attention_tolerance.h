// How far attention in f32 may be from the truth.
#ifndef STRAKE_CORE_TESTING_ATTENTION_TOLERANCE_H_
#define STRAKE_CORE_TESTING_ATTENTION_TOLERANCE_H_

#include <cmath>
#include <cstdint>

namespace strake::testing {

// Scores of unit normal features are about normal; the largest products of norms of small tests are
// below 9 sqrt(D), and a score's relative error is about sqrt(D) + 4 roundings, which is an
// absolute one of the logarithm of its probability. The sum over T keys adds sqrt(T); 4 for the
// tail.
inline double AttentionTolerance(int64_t head_dim, int64_t num_keys) {
  const double root = std::sqrt(head_dim);
  return 4 * 0x1p-24 * ((root + 4) * (1 + 9 * root) + std::sqrt(num_keys));
}

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_ATTENTION_TOLERANCE_H_
