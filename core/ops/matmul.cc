#include "core/ops/matmul.h"

#include "core/ops/cpu/matmul.h"
#include "core/ops/cpu/matvec.h"
#include "core/ops/dispatch.h"
#include "core/ops/reference/matmul.h"
#include "glog/logging.h"

namespace strake {
namespace {

struct Sizes {
  int64_t m, n, k;
};

Sizes CheckShapes(const Tensor& a, const Tensor& b, const MatmulOptions& options, const Tensor& c) {
  CheckOnCpu("matmul", c);
  const bool matrices = a.rank() == 2 && b.rank() == 2 && c.rank() == 2;
  const Sizes sizes = {matrices ? c.dim(0) : 0, matrices ? c.dim(1) : 0,
                       matrices ? a.dim(options.transpose_a ? 0 : 1) : 0};
  CHECK(matrices && a.dim(options.transpose_a ? 1 : 0) == sizes.m &&
        b.dim(options.transpose_b ? 1 : 0) == sizes.k &&
        b.dim(options.transpose_b ? 0 : 1) == sizes.n && a.dtype() == c.dtype() &&
        b.dtype() == c.dtype() && a.device() == c.device() && b.device() == c.device())
      << "[matmul] a " << a.ToString() << (options.transpose_a ? " transposed" : "") << ", b "
      << b.ToString() << (options.transpose_b ? " transposed" : "") << ", c " << c.ToString();
  return sizes;
}

template <typename Scalar>
void Reference(const Context& ctx, const Tensor& a, const Tensor& b, const MatmulOptions& options,
               const Sizes& sizes, const Tensor& c) {
  const auto [m, n, k] = sizes;
  const int64_t tiles = reference::MatmulTiles(m, n).count;
  ctx.team().ParallelFor(tiles, 1, [&, m = m, n = n, k = k](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      reference::Matmul(a.data<Scalar>(), b.data<Scalar>(), m, n, k, options.transpose_a,
                        options.transpose_b, options.accumulate, tile, c.data<Scalar>());
    }
  });
}

// False where this build has nothing better than the reference. No size is 0.
bool RunOnCpu(const Context& ctx, const Tensor& a, const Tensor& b, const MatmulOptions& options,
              const Sizes& sizes, const Tensor& c) {
  const auto [m, n, k] = sizes;
  const float *left = a.data<float>(), *right = b.data<float>();
  if (m > 1) return cpu::Matmul(ctx.team(), left, right, m, n, k, options, c.data<float>());
  cpu::MatVec(ctx.team(), left, right, n, k, options.transpose_b, options.accumulate,
              c.data<float>());
  return true;
}

}  // namespace

absl::Status Matmul(const Context& ctx, const Tensor& a, const Tensor& b, MatmulOptions options,
                    Tensor c) {
  const Sizes sizes = CheckShapes(a, b, options, c);
  if (ctx.dry_run()) return absl::OkStatus();
  const auto [m, n, k] = sizes;
  const OpTimer timer(ctx.profile(), "matmul", ctx.pass(), 2.0 * m * n * k);
  const bool use_cpu = !ctx.reference() && c.dtype() == DType::kF32 && m > 0 && n > 0 && k > 0;
  if (use_cpu && RunOnCpu(ctx, a, b, options, sizes, c)) return absl::OkStatus();
  DispatchReference("matmul", c.dtype(),
                    [&]<typename Scalar>() { Reference<Scalar>(ctx, a, b, options, sizes, c); });
  return absl::OkStatus();
}

}  // namespace strake
