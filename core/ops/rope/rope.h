// RoPE: rotates pairs of query and key features by an angle that grows with the position.
//
//   y[n,h,a] = m (x[n,h,a] cos(p f_i) - x[n,h,b] sin(p f_i))         i in [0, R/2)
//   y[n,h,b] = m (x[n,h,b] cos(p f_i) + x[n,h,a] sin(p f_i))
//   (a, b) = (i, i + R/2), or (2i, 2i + 1) where interleaved
//   p = position_offset + n mod T, or positions[n] where given
//   f_i = theta^(-2i/R), rescaled as in RopeConfig;   m = the scaling's attention factor, or 1
//
// Pairs (i, i + R/2) are those of most of Hugging Face's weights. N tokens in sequences of T; heads
// of D features, of which the first R are rotated. dtypes: f32; bf16; f64 and c128 on the reference
// path. The table is always f64. Positions [N] are i32, in [0, P), as those of documents
// (core/ops/documents.h): on the CPU one outside is CheckPositions()'s error, before anything is
// written; on CUDA, where nothing waits for a kernel, the features that are rotated become NaN.
// Source: Su et al., "RoFormer", 2021, section 3.2.2.
#ifndef STRAKE_CORE_OPS_ROPE_ROPE_H_
#define STRAKE_CORE_OPS_ROPE_ROPE_H_

#include <cstdint>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// Positions are divided by `factor`: all frequencies are. Source: Chen et al., "Extending Context
// Window of Large Language Models via Positional Interpolation", 2023, section 3.
struct RopeLinearScaling {
  double factor = 1;
  bool operator==(const RopeLinearScaling&) const = default;
};

// Frequencies that depend on a sequence's length where it is above the model's max_positions.
// Models refuse such sequences, so that nothing is rescaled; the factor is kept for other programs.
struct RopeDynamicScaling {
  double factor = 1;
  bool operator==(const RopeDynamicScaling&) const = default;
};

// Wavelengths longer than original_positions / low_frequency_factor are stretched by `factor`.
// Those shorter than original_positions / high_frequency_factor are left alone. Those in between
// are interpolated. Source: Meta, "The Llama 3 Herd of Models", 2024, section 3.2, and the code
// released with it.
struct RopeWavelengthScaling {
  double factor = 8;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  int64_t original_positions = 8192;
  bool operator==(const RopeWavelengthScaling&) const = default;
};

// Features that turn fewer than slow_rotations times over original_positions are stretched by
// `factor`. Those that turn more than fast_rotations times are left alone. In between, the share is
// linear in the index of the feature; the ends of that range are whole indices if `whole_range`.
// Sines and cosines are multiplied by attention_factor. Source: Peng et al., "YaRN", 2023, sections
// 3.2 to 3.4.
struct RopeYarnScaling {
  double factor = 1;
  int64_t original_positions = 0;
  double fast_rotations = 32;
  double slow_rotations = 1;
  double attention_factor = 1;
  bool whole_range = true;
  bool operator==(const RopeYarnScaling&) const = default;
};

// Each frequency has a divisor of its own: one of the short factors in tables of up to
// original_positions positions, else one of the long factors; R/2 of each. Sines and cosines are
// multiplied by attention_factor. Source: Ding et al., "LongRoPE", 2024, section 3.
struct RopeLongScaling {
  std::vector<double> short_factors = {}, long_factors = {};
  int64_t original_positions = 0;
  double attention_factor = 1;
  bool operator==(const RopeLongScaling&) const = default;
};

struct RopeConfig {
  double theta = 10000;
  int64_t rotary_dim = 0;    // R, the first features of each head, which are rotated; 0: all
  bool interleaved = false;  // pairs are (2i, 2i + 1) instead of (i, i + R/2)
  std::variant<std::monostate, RopeLinearScaling, RopeDynamicScaling, RopeWavelengthScaling,
               RopeYarnScaling, RopeLongScaling>
      scaling = {};
  bool operator==(const RopeConfig&) const = default;
};

// f_i of a table of num_positions positions, written to frequencies [R/2] (f64).
void RopeFrequencies(const RopeConfig& config, int64_t num_positions, Tensor frequencies);

// table [P, R] (f64): m cos(p f_i) in columns [0, R/2), m sin(p f_i) in [R/2, R), for p < P.
void RopeTable(const RopeConfig& config, Tensor table);

// The heads of a row that are rotated: its first ones. With a fused QKV matrix, queries and keys
// are heads 0 to H + KV - 1.
struct RopeHeads {
  int64_t num_heads = 0, head_dim = 0;
  bool interleaved = false;
};

// Rotates x [N, at least num_heads * D] in place, by a table of R <= D columns. CHECKs that
// position_offset + T <= P.
absl::Status RopeForward(const Context& ctx, const Tensor& table, const RopeHeads& heads,
                         int64_t seq_len, int64_t position_offset, Tensor x,
                         const Tensor& positions = {});

// Applies the transpose in place (position_offset 0): it rotates back, and multiplies by m again.
absl::Status RopeBackward(const Context& ctx, const Tensor& table, const RopeHeads& heads,
                          int64_t seq_len, Tensor dx, const Tensor& positions = {});

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ROPE_ROPE_H_
