// RoPE: rotates pairs of query and key features by an angle that grows with the position.
//
//   y[n,h,i]       = x[n,h,i] cos(p f_i) - x[n,h,i+D/2] sin(p f_i)         i in [0, D/2)
//   y[n,h,i+D/2]   = x[n,h,i+D/2] cos(p f_i) + x[n,h,i] sin(p f_i)
//   p = position_offset + n mod T,   f_i = theta^(-2i/D), rescaled as in RopeConfig
//
// The pairing (i, i + D/2) is that of Hugging Face's weights. N tokens in sequences of T, D = head
// size. dtypes: f32; bf16; f64 and c128 on the reference path. The table is always f64.
// Source: Su et al., "RoFormer", 2021, section 3.2.2; scaling: Meta, "The Llama 3 Herd of Models",
// 2024, section 3.2, and the code released with it.
#ifndef STRAKE_CORE_OPS_ROPE_ROPE_H_
#define STRAKE_CORE_OPS_ROPE_ROPE_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// Wavelengths longer than original_positions / low_frequency_factor are stretched by `factor`.
// Those shorter than original_positions / high_frequency_factor are left alone. Those in between
// are interpolated.
struct RopeWavelengthScaling {
  double factor = 8;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  int64_t original_positions = 8192;
  bool operator==(const RopeWavelengthScaling&) const = default;
};

struct RopeConfig {
  double theta = 10000;
  std::optional<RopeWavelengthScaling> by_wavelength;  // absent: no rescaling
  bool operator==(const RopeConfig&) const = default;
};

// f_i for i < head_dim / 2, written to frequencies [head_dim / 2] (f64).
void RopeFrequencies(const RopeConfig& config, int64_t head_dim, Tensor frequencies);

// table [P, D] (f64): cos(p f_i) in columns [0, D/2), sin(p f_i) in [D/2, D), for positions p < P.
void RopeTable(const RopeConfig& config, Tensor table);

// Rotates the first `num_heads` heads of x [N, at least num_heads * D] in place. With a fused QKV
// matrix, queries and keys are heads 0 to H + KV - 1. CHECKs that position_offset + T <= P.
absl::Status RopeForward(const Context& ctx, const Tensor& table, int64_t num_heads,
                         int64_t seq_len, int64_t position_offset, Tensor x);

// Applies the inverse rotation, which is the transpose, in place (position_offset 0).
absl::Status RopeBackward(const Context& ctx, const Tensor& table, int64_t num_heads,
                          int64_t seq_len, Tensor dx);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ROPE_ROPE_H_
