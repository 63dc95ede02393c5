// Q8_0: 32 numbers as integers of 8 bits and a scale.
//
//   x[i] ~ s q[i],   q[i] in [-127, 127],   s: the least F16 that is at least max |x| / 127
//
// A block is 34 bytes: s, then q[0], ..., q[31]. The error of a number is at most s / 2. Source:
// ggml's block_q8_0, whose own scale is the nearest F16 instead of the least above.
#ifndef STRAKE_MODELS_GGUF_Q8_0_H_
#define STRAKE_MODELS_GGUF_Q8_0_H_

#include <cstdint>

namespace strake {

inline constexpr int64_t kQ8BlockElements = 32;
inline constexpr int64_t kQ8BlockBytes = 34;

// out [num_blocks * 34] = the blocks of values [num_blocks * 32]. Returns the index of the first
// value without a form: one that is not finite, or so large that its scale exceeds F16; else the
// number of values.
int64_t ToQ8(const float* values, int64_t num_blocks, char* out);

}  // namespace strake

#endif  // STRAKE_MODELS_GGUF_Q8_0_H_
