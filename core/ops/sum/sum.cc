#include "core/ops/sum/sum.h"

#include "core/ops/dispatch.h"
#include "core/ops/sum/sum_cuda.h"
#include "glog/logging.h"

namespace strake {
namespace {

template <typename Scalar>
double SumOf(const Tensor& x) {
  double sum = 0;
  for (int64_t i = 0; i < x.num_elements(); ++i) sum += x.data<Scalar>()[i];
  return sum;
}

}  // namespace

absl::Status AddSum(const Context& ctx, const Tensor& x, Tensor total) {
  CHECK(x.rank() == 1 && (x.dtype() == DType::kF32 || x.dtype() == DType::kF64) &&
        total.shape() == Shape{1} && total.dtype() == DType::kF64)
      << "[sum] x " << x.ToString() << ", total " << total.ToString();
  const bool on_cuda = OnCuda("sum", ctx, x, total);
  const OpScope op(ctx, "sum", [&](OpCall& call) { call.In("x", x).InOut("total", total); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    const auto add = [&]<typename T>() {
      return cuda::AddSum<T>(
          ctx.cuda_stream(),
          {.x = x.data<T>(), .size = x.num_elements(), .total = total.data<double>()});
    };
    return x.dtype() == DType::kF32 ? add.template operator()<float>()
                                    : add.template operator()<double>();
  }
  *total.data<double>() += x.dtype() == DType::kF32 ? SumOf<float>(x) : SumOf<double>(x);
  return absl::OkStatus();
}

}  // namespace strake
