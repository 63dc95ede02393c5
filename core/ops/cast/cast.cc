#include "core/ops/cast/cast.h"

#include "core/ops/cast/cast_cpu.h"
#include "core/ops/cast/cast_cuda.h"
#include "core/ops/cast/cast_reference.h"
#include "core/ops/dispatch.h"
#include "glog/logging.h"

namespace strake {
namespace {

bool IsPair(const Tensor& x, const Tensor& y, DType from, DType to) {
  return x.dtype() == from && y.dtype() == to;
}

void CheckOperands(const Tensor& x, const Tensor& y, bool add) {
  CHECK(x.shape() == y.shape() &&
        (IsPair(x, y, DType::kBf16, DType::kF32) || IsPair(x, y, DType::kF64, DType::kF64) ||
         (!add && IsPair(x, y, DType::kF32, DType::kBf16))))
      << "[cast] x " << x.ToString() << ", y " << y.ToString() << (add ? ", added" : "");
}

template <typename Body>
void ForEachRange(const Context& ctx, const Tensor& x, Body&& body) {
  ctx.team().ParallelFor(x.num_elements(), RowGrain(1), body);
}

// Calls body(from, size, to) for ranges of x [f64] and y [f64].
template <typename Body>
void RunReference(const Context& ctx, const Tensor& x, const Tensor& y, Body&& body) {
  ForEachRange(ctx, x, [&](int64_t begin, int64_t end) {
    body(x.data<double>() + begin, end - begin, y.data<double>() + begin);
  });
}

}  // namespace

absl::Status Cast(const Context& ctx, const Tensor& x, Tensor y) {
  CheckOperands(x, y, /*add=*/false);
  const bool on_cuda = OnCuda("cast", ctx, x, y);
  const OpScope op(ctx, "cast", [&](OpCall& call) { call.In("x", x).Out("y", y).Set("add", 0); });
  if (ctx.dry_run()) return absl::OkStatus();
  const int64_t size = x.num_elements();
  const bool to_bf16 = y.dtype() == DType::kBf16;
  if (on_cuda && to_bf16) {
    return cuda::CastToBf16(ctx.cuda_stream(),
                            {.x = x.data<float>(), .size = size, .y = y.data<Bf16>()});
  }
  if (on_cuda) {
    return cuda::CastFromBf16(ctx.cuda_stream(),
                              {.x = x.data<Bf16>(), .size = size, .y = y.data<float>()});
  }
  if (x.dtype() == DType::kF64) {
    RunReference(ctx, x, y, reference::Cast<double, double>);
    return absl::OkStatus();
  }
  ForEachRange(ctx, x, [&](int64_t begin, int64_t end) {
    if (to_bf16) {
      STRAKE_CPU_RUN(Cast(x.data<float>() + begin, end - begin, y.data<Bf16>() + begin));
    } else {
      STRAKE_CPU_RUN(Cast(x.data<Bf16>() + begin, end - begin, y.data<float>() + begin));
    }
  });
  return absl::OkStatus();
}

absl::Status CastAdd(const Context& ctx, const Tensor& x, Tensor y) {
  CheckOperands(x, y, /*add=*/true);
  const bool on_cuda = OnCuda("cast", ctx, x, y);
  const OpScope op(ctx, "cast", [&](OpCall& call) { call.In("x", x).InOut("y", y).Set("add", 1); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return cuda::CastAdd(ctx.cuda_stream(),
                         {.x = x.data<Bf16>(), .size = x.num_elements(), .y = y.data<float>()});
  }
  if (x.dtype() == DType::kF64) {
    RunReference(ctx, x, y, reference::CastAdd<double, double>);
    return absl::OkStatus();
  }
  ForEachRange(ctx, x, [&](int64_t begin, int64_t end) {
    STRAKE_CPU_RUN(CastAdd(x.data<Bf16>() + begin, end - begin, y.data<float>() + begin));
  });
  return absl::OkStatus();
}

}  // namespace strake
