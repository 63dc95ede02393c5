#include "core/ops/rope/rope.h"

#include <cmath>
#include <vector>

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/rope/rope_cpu.h"
#include "core/ops/rope/rope_cuda.h"
#include "core/ops/rope/rope_reference.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr double kTwoPi = 6.283185307179586476925;

double Rescale(const RopeWavelengthScaling& scaling, double frequency) {
  const double wavelength = kTwoPi / frequency;
  const double ratio = scaling.original_positions / wavelength;  // rotations over that length
  if (ratio < scaling.low_frequency_factor) return frequency / scaling.factor;
  if (ratio > scaling.high_frequency_factor) return frequency;
  // The two factors may be equal. Then only a ratio that equals both gets here.
  const double width = scaling.high_frequency_factor - scaling.low_frequency_factor;
  const double smooth = width == 0 ? 1 : (ratio - scaling.low_frequency_factor) / width;
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency;
}

void ComputeFrequencies(const RopeConfig& config, int64_t head_dim, double* frequencies) {
  CHECK_EQ(head_dim % 2, 0) << "[rope] head_dim " << head_dim << " is odd: features go in pairs";
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double frequency = std::pow(config.theta, -2.0 * i / head_dim);
    const auto* const scaling = std::get_if<RopeWavelengthScaling>(&config.scaling);
    frequencies[i] = scaling ? Rescale(*scaling, frequency) : frequency;
  }
}

absl::Status Rotate(const Context& ctx, const Tensor& table, int64_t num_heads, int64_t seq_len,
                    int64_t position_offset, bool inverse, const Tensor& x) {
  CHECK(table.dtype() == DType::kF64 && table.rank() == 2 && table.dim(1) % 2 == 0 &&
        x.rank() == 2 && num_heads >= 0 && x.dim(1) >= num_heads * table.dim(1) && seq_len > 0 &&
        x.dim(0) % seq_len == 0 && position_offset >= 0 &&
        position_offset + seq_len <= table.dim(0))
      << "[rope] x " << x.ToString() << ", table " << table.ToString() << ", " << num_heads
      << " heads, sequences of " << seq_len << " from position " << position_offset;
  const bool on_cuda = OnCuda("rope", ctx, table, x);
  const OpScope op(ctx, "rope", [&](OpCall& call) {
    call.In("table", table, table.Rows(0, seq_len).num_bytes())
        .InOut("x", x, 1.0 * x.dim(0) * num_heads * table.dim(1) * DTypeSize(x.dtype()))
        .Set("num_heads", num_heads)
        .Set("seq_len", seq_len)
        .Set("position_offset", position_offset)
        .Set("inverse", inverse);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const auto args_of = [&]<typename T>() -> RopeArgs<T> {
    return {.table = table.data<double>(),
            .head_dim = table.dim(1),
            .num_heads = num_heads,
            .seq_len = seq_len,
            .position_offset = position_offset,
            .inverse = inverse,
            .tokens = x.dim(0),
            .stride = x.dim(1),
            .x = x.data<T>()};
  };
  if (on_cuda) {
    return DispatchCuda("rope", x.dtype(), [&]<typename T>() {
      return cuda::Rope<T>(ctx.cuda_stream(), args_of.template operator()<T>());
    });
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

void RopeFrequencies(const RopeConfig& config, int64_t head_dim, Tensor frequencies) {
  CHECK(frequencies.shape() == Shape{head_dim / 2})
      << "[rope] head_dim " << head_dim << ", frequencies " << frequencies.ToString();
  ComputeFrequencies(config, head_dim, frequencies.data<double>());
}

void RopeTable(const RopeConfig& config, Tensor table) {
  CHECK_EQ(table.rank(), 2) << "[rope] table " << table.ToString();
  const int64_t head_dim = table.dim(1), half = head_dim / 2;
  std::vector<double> frequencies(half);
  ComputeFrequencies(config, head_dim, frequencies.data());
  for (int64_t position = 0; position < table.dim(0); ++position) {
    double* row = table.data<double>() + position * head_dim;
    for (int64_t i = 0; i < half; ++i) {
      row[i] = std::cos(position * frequencies[i]);
      row[half + i] = std::sin(position * frequencies[i]);
    }
  }
}

absl::Status RopeForward(const Context& ctx, const Tensor& table, int64_t num_heads,
                         int64_t seq_len, int64_t position_offset, Tensor x) {
  return Rotate(ctx, table, num_heads, seq_len, position_offset, false, x);
}

absl::Status RopeBackward(const Context& ctx, const Tensor& table, int64_t num_heads,
                          int64_t seq_len, Tensor dx) {
  return Rotate(ctx, table, num_heads, seq_len, 0, true, dx);
}

}  // namespace strake
