#include "core/ops/squared_norm/squared_norm.h"

#include <algorithm>
#include <vector>

#include "core/ops/dispatch.h"
#include "core/ops/squared_norm/squared_norm_cuda.h"
#include "core/ops/squared_norm/squared_norm_reference.h"
#include "glog/logging.h"

namespace strake {
namespace {

// A thread's unit of work: large enough to outweigh the cost of handing it out, and small enough to
// balance the load.
constexpr int64_t kBlockElements = 16384;

void CheckShapes(const Tensor& x, const Tensor& sum) {
  const DType sum_dtype = x.dtype() == DType::kC128 ? DType::kC128 : DType::kF64;
  CHECK(sum.shape() == Shape{1} && sum.dtype() == sum_dtype)
      << "[squared_norm] x " << x.ToString() << ", sum or its gradient " << sum.ToString();
}

template <typename Scalar>
typename reference::SumType<Scalar>::type SumOfBlocks(ThreadTeam& team, const Scalar* x,
                                                      int64_t size) {
  using Sum = typename reference::SumType<Scalar>::type;
  std::vector<Sum> blocks((size + kBlockElements - 1) / kBlockElements);
  team.ParallelFor(blocks.size(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t at = block * kBlockElements;
      blocks[block] = reference::SquaredNorm(x + at, std::min(kBlockElements, size - at));
    }
  });
  Sum sum = 0;
  for (const Sum& block : blocks) sum += block;
  return sum;
}

}  // namespace

absl::Status SquaredNormForward(const Context& ctx, const Tensor& x, Tensor sum) {
  CheckShapes(x, sum);
  const bool on_cuda = OnCuda("squared_norm", ctx, x, sum);
  const ActivationScope scope(ctx.arena());
  Tensor workspace;
  if (on_cuda) {
    workspace =
        ctx.arena().Allocate(DType::kF64, {cuda::SquaredNormWorkspaceSize(x.num_elements())});
  }
  const OpScope op(ctx, "squared_norm", [&](OpCall& call) { call.In("x", x).Out("sum", sum); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return cuda::SquaredNormForward(ctx.cuda_stream(), {.x = x.data<float>(),
                                                        .size = x.num_elements(),
                                                        .sum = sum.data<double>(),
                                                        .workspace = workspace.data<double>()});
  }
  DispatchReference("squared_norm", x.dtype(), [&]<typename Scalar>() {
    using Sum = typename reference::SumType<Scalar>::type;
    *sum.data<Sum>() = SumOfBlocks(ctx.team(), x.data<Scalar>(), x.num_elements());
  });
  return absl::OkStatus();
}

absl::Status SquaredNormBackward(const Context& ctx, const Tensor& x, const Tensor& dsum,
                                 Tensor dx) {
  CheckShapes(x, dsum);
  CHECK(dx.shape() == x.shape() && dx.dtype() == x.dtype())
      << "[squared_norm] x " << x.ToString() << ", dx " << dx.ToString();
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
