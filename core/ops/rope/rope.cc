#include "core/ops/rope/rope.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/documents.h"
#include "core/ops/rope/rope_cpu.h"
#include "core/ops/rope/rope_cuda.h"
#include "core/ops/rope/rope_reference.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr double kTwoPi = 6.283185307179586476925;

// Rescale() changes frequencies f_i = theta^(-2i/R), R/2 of them, of a table of num_positions rows.
struct Frequencies {
  double theta;
  int64_t num_positions;
  std::span<double> f;
};

void Rescale(std::monostate, const Frequencies&) {}

void Rescale(const RopeLinearScaling& scaling, const Frequencies& frequencies) {
  for (double& f : frequencies.f) f /= scaling.factor;
}

void Rescale(const RopeDynamicScaling&, const Frequencies&) {}

void Rescale(const RopeWavelengthScaling& scaling, const Frequencies& frequencies) {
  // The two factors may be equal. Then only a ratio that equals both is between them.
  const double width = scaling.high_frequency_factor - scaling.low_frequency_factor;
  for (double& f : frequencies.f) {
    const double wavelength = kTwoPi / f;
    const double ratio = scaling.original_positions / wavelength;  // rotations over that length
    if (ratio > scaling.high_frequency_factor) continue;
    const bool stretched = ratio < scaling.low_frequency_factor;
    const double smooth = width == 0 ? 1 : (ratio - scaling.low_frequency_factor) / width;
    f = stretched ? f / scaling.factor : (1 - smooth) * f / scaling.factor + smooth * f;
  }
}

void Rescale(const RopeYarnScaling& scaling, const Frequencies& frequencies) {
  const int64_t count = frequencies.f.size();
  // The index, not whole, of the feature that turns so many times over the original positions.
  const auto index_of = [&](double rotations) {
    const double theta_power = scaling.original_positions / (rotations * kTwoPi);
    return count * std::log(theta_power) / std::log(frequencies.theta);
  };
  double low = index_of(scaling.fast_rotations), high = index_of(scaling.slow_rotations);
  if (scaling.whole_range) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, 2.0 * count - 1);
  const double width = high == low ? 0.001 : high - low;  // a step where the range is empty
  for (int64_t i = 0; i < count; ++i) {
    const double share = std::clamp((i - low) / width, 0.0, 1.0);
    double& f = frequencies.f[i];
    f = share * f / scaling.factor + (1 - share) * f;
  }
}

void Rescale(const RopeLongScaling& scaling, const Frequencies& frequencies) {
  const bool is_long = frequencies.num_positions > scaling.original_positions;
  const std::vector<double>& factors = is_long ? scaling.long_factors : scaling.short_factors;
  CHECK_EQ(factors.size(), frequencies.f.size()) << "[rope] factors of the scaling";
  for (size_t i = 0; i < factors.size(); ++i) frequencies.f[i] /= factors[i];
}

double AttentionFactor(const RopeConfig& config) {
  return std::visit(
      [](const auto& scaling) {
        if constexpr (requires { scaling.attention_factor; }) return scaling.attention_factor;
        return 1.0;
      },
      config.scaling);
}

void ComputeFrequencies(const RopeConfig& config, int64_t num_positions, std::span<double> f) {
  const int64_t rotary_dim = 2 * f.size();
  CHECK(config.rotary_dim == 0 || config.rotary_dim == rotary_dim)
      << "[rope] frequencies of " << rotary_dim << " features, rotary_dim " << config.rotary_dim;
  for (size_t i = 0; i < f.size(); ++i) f[i] = std::pow(config.theta, -2.0 * i / rotary_dim);
  std::visit(
      [&](const auto& scaling) {
        Rescale(scaling, {config.theta, num_positions, f});
      },
      config.scaling);
}

absl::Status Rotate(const Context& ctx, const Tensor& table, const RopeHeads& heads,
                    int64_t seq_len, int64_t position_offset, bool transposed, const Tensor& x,
                    const Tensor& positions) {
  const int64_t num_heads = heads.num_heads, head_dim = heads.head_dim;
  CHECK(table.dtype() == DType::kF64 && table.rank() == 2 && table.dim(1) % 2 == 0 &&
        table.dim(1) <= head_dim && x.rank() == 2 && num_heads >= 0 &&
        x.dim(1) >= num_heads * head_dim && seq_len > 0 && x.dim(0) % seq_len == 0 &&
        position_offset >= 0 && position_offset + seq_len <= table.dim(0))
      << "[rope] x " << x.ToString() << ", table " << table.ToString() << ", " << num_heads
      << " heads of " << head_dim << ", sequences of " << seq_len << " from position "
      << position_offset;
  CHECK(!positions.defined() ||
        (positions.shape() == Shape({x.dim(0)}) && positions.dtype() == DType::kI32))
      << "[rope] x " << x.ToString() << ", positions " << positions.ToString();
  const bool on_cuda = OnCuda("rope", ctx, table, x, positions);
  const OpScope op(ctx, "rope", [&](OpCall& call) {
    call.In("table", table, table.Rows(0, seq_len).num_bytes())
        .InOut("x", x, 1.0 * x.dim(0) * num_heads * table.dim(1) * DTypeSize(x.dtype()))
        .In("positions", positions)
        .Set("num_heads", num_heads)
        .Set("head_dim", head_dim)
        .Set("interleaved", heads.interleaved)
        .Set("seq_len", seq_len)
        .Set("position_offset", position_offset)
        .Set("transposed", transposed);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const auto args_of = [&]<typename T>() -> RopeArgs<T> {
    return {.table = table.data<double>(),
            .rotary_dim = table.dim(1),
            .head_dim = head_dim,
            .num_heads = num_heads,
            .seq_len = seq_len,
            .position_offset = position_offset,
            .interleaved = heads.interleaved,
            .transposed = transposed,
            .tokens = x.dim(0),
            .stride = x.dim(1),
            .x = x.data<T>(),
            .positions = positions.defined() ? positions.data<int32_t>() : nullptr,
            .num_positions = table.dim(0)};
  };
  if (on_cuda) {
    return DispatchCuda("rope", x.dtype(), [&]<typename T>() {
      return cuda::Rope<T>(ctx.cuda_stream(), args_of.template operator()<T>());
    });
  }
  if (positions.defined()) {
    const absl::Status valid = CheckPositions("rope", positions, table.dim(0));
    if (!valid.ok()) return valid;
  }
  const int64_t grain = RowGrain(num_heads * table.dim(1));
  const bool done = RunCpuKernels("rope", ctx, x.dtype(), [&]<typename T>() {
    const auto args = args_of.template operator()<T>();
    ctx.team().ParallelFor(args.tokens, grain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(Rope(args, begin, end));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("rope", x.dtype(), [&]<typename Scalar>() {
    const auto args = args_of.template operator()<Scalar>();
    ctx.team().ParallelFor(args.tokens, grain,
                           [&](int64_t begin, int64_t end) { reference::Rope(args, begin, end); });
  });
  return absl::OkStatus();
}

}  // namespace

void RopeFrequencies(const RopeConfig& config, int64_t num_positions, Tensor frequencies) {
  CHECK_EQ(frequencies.rank(), 1) << "[rope] frequencies " << frequencies.ToString();
  const size_t count = frequencies.dim(0);
  ComputeFrequencies(config, num_positions, {frequencies.data<double>(), count});
}

void RopeTable(const RopeConfig& config, Tensor table) {
  CHECK_EQ(table.rank(), 2) << "[rope] table " << table.ToString();
  const int64_t num_positions = table.dim(0), rotary_dim = table.dim(1), half = rotary_dim / 2;
  CHECK_EQ(rotary_dim % 2, 0) << "[rope] table " << table.ToString() << ": features go in pairs";
  std::vector<double> frequencies(half);
  ComputeFrequencies(config, num_positions, frequencies);
  const double factor = AttentionFactor(config);
  for (int64_t position = 0; position < num_positions; ++position) {
    double* row = table.data<double>() + position * rotary_dim;
    for (int64_t i = 0; i < half; ++i) {
      row[i] = factor * std::cos(position * frequencies[i]);
      row[half + i] = factor * std::sin(position * frequencies[i]);
    }
  }
}

absl::Status RopeForward(const Context& ctx, const Tensor& table, const RopeHeads& heads,
                         int64_t seq_len, int64_t position_offset, Tensor x,
                         const Tensor& positions) {
  return Rotate(ctx, table, heads, seq_len, position_offset, /*transposed=*/false, x, positions);
}

absl::Status RopeBackward(const Context& ctx, const Tensor& table, const RopeHeads& heads,
                          int64_t seq_len, Tensor dx, const Tensor& positions) {
  return Rotate(ctx, table, heads, seq_len, /*position_offset=*/0, /*transposed=*/true, dx,
                positions);
}

}  // namespace strake
