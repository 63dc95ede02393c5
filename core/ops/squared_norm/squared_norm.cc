#include "core/ops/squared_norm/squared_norm.h"

#include <atomic>
#include <complex>
#include <type_traits>

#include "core/base/exact_sum.h"
#include "core/ops/dispatch.h"
#include "core/ops/squared_norm/squared_norm_cuda.h"
#include "core/ops/squared_norm/squared_norm_reference.h"
#include "core/ops/squared_norm/squared_norm_unit.h"
#include "glog/logging.h"

namespace strake {
namespace {

// A thread's unit of work: large enough to outweigh the cost of handing it out, and small enough to
// balance the load.
constexpr int64_t kBlockElements = 16384;

// Calls add(sum) for each unit of the elements [begin, end) of x.
template <typename Scalar, typename Add>
void ForEachUnit(const Scalar* x, int64_t begin, int64_t end, const Add& add) {
  int64_t at = begin;
  for (; at + kSquaredNormUnit <= end; at += kSquaredNormUnit) {
    // A constant size, so that the compiler keeps lanes in registers.
    add(reference::SquaredNormOfUnit(x + at, kSquaredNormUnit));
  }
  if (at < end) add(reference::SquaredNormOfUnit(x + at, end - at));
}

template <typename Scalar>
void AddUnits(ThreadTeam& team, const Scalar* x, int64_t size, int64_t* sum) {
  static_assert(kBlockElements % kSquaredNormUnit == 0);
  team.ParallelFor(size, kBlockElements, [&](int64_t begin, int64_t end) {
    int64_t limbs[kExactSumLimbs] = {};
    ForEachUnit(x, begin, end, [&](double unit) { AddToExactSum(unit, limbs); });
    for (int k = 0; k < kExactSumLimbs; ++k) {
      if (limbs[k] != 0) std::atomic_ref(sum[k]).fetch_add(limbs[k]);
    }
  });
  CarryExactSum(sum);
}

}  // namespace

absl::Status SquaredNormForward(const Context& ctx, const Tensor& x, Tensor sum) {
  const bool complex = x.dtype() == DType::kC128;
  CHECK(sum.shape() == (complex ? Shape{1} : Shape{kExactSumLimbs}) &&
        sum.dtype() == (complex ? DType::kC128 : DType::kI64))
      << "[squared_norm] x " << x.ToString() << ", sum " << sum.ToString();
  const bool on_cuda = OnCuda("squared_norm", ctx, x, sum);
  const ActivationScope scope(ctx.arena());
  Tensor workspace;
  if (on_cuda) {
    workspace =
        ctx.arena().Allocate(DType::kI64, {cuda::SquaredNormWorkspaceSize(x.num_elements())});
  }
  const OpScope op(ctx, "squared_norm", [&](OpCall& call) { call.In("x", x).InOut("sum", sum); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return cuda::SquaredNormForward(ctx.cuda_stream(), {.x = x.data<float>(),
                                                        .size = x.num_elements(),
                                                        .sum = sum.data<int64_t>(),
                                                        .workspace = workspace.data<int64_t>()});
  }
  DispatchReference("squared_norm", x.dtype(), [&]<typename Scalar>() {
    if constexpr (std::is_same_v<Scalar, std::complex<double>>) {
      ForEachUnit(x.data<Scalar>(), 0, x.num_elements(),
                  [&](const Scalar& unit) { *sum.data<Scalar>() += unit; });
    } else {
      AddUnits(ctx.team(), x.data<Scalar>(), x.num_elements(), sum.data<int64_t>());
    }
  });
  return absl::OkStatus();
}

absl::Status SquaredNormBackward(const Context& ctx, const Tensor& x, const Tensor& dsum,
                                 Tensor dx) {
  CHECK(dsum.shape() == Shape{1} &&
        dsum.dtype() == (x.dtype() == DType::kC128 ? DType::kC128 : DType::kF64) &&
        dx.shape() == x.shape() && dx.dtype() == x.dtype())
      << "[squared_norm] x " << x.ToString() << ", dsum " << dsum.ToString() << ", dx "
      << dx.ToString();
  const bool on_cuda = OnCuda("squared_norm", ctx, x, dsum, dx);
  const OpScope op(ctx, "squared_norm",
                   [&](OpCall& call) { call.In("x", x).In("dsum", dsum).Out("dx", dx); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return cuda::SquaredNormBackward(ctx.cuda_stream(), {.x = x.data<float>(),
                                                         .dsum = dsum.data<double>(),
                                                         .size = x.num_elements(),
                                                         .dx = dx.data<float>()});
  }
  DispatchReference("squared_norm", x.dtype(), [&]<typename Scalar>() {
    const auto scale = *dsum.data<typename reference::SumType<Scalar>::type>();
    ctx.team().ParallelFor(x.num_elements(), kBlockElements, [&](int64_t begin, int64_t end) {
      reference::SquaredNormBackward(x.data<Scalar>() + begin, scale, end - begin,
                                     dx.data<Scalar>() + begin);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
