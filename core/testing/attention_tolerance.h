// The largest error of attention in f32 relative to the truth.
#ifndef STRAKE_CORE_TESTING_ATTENTION_TOLERANCE_H_
#define STRAKE_CORE_TESTING_ATTENTION_TOLERANCE_H_

#include <cmath>
#include <cstdint>

namespace strake::testing {

// Scores of unit normal features are about normal, and the largest products of norms in small tests
// are below 9 sqrt(D). A score's relative error is about sqrt(D) + 4 roundings; it is an absolute
// error of the logarithm of its probability. The sum over T keys adds sqrt(T); the factor 4 is for
// the tail.
inline double AttentionTolerance(int64_t head_dim, int64_t num_keys) {
  const double root = std::sqrt(head_dim);
  return 4 * 0x1p-24 * ((root + 4) * (1 + 9 * root) + std::sqrt(num_keys));
}

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_ATTENTION_TOLERANCE_H_
