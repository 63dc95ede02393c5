#include "core/ops/matmul/cublaslt_matmul.h"

#include <cstdint>

#include "core/base/status_macros.h"
#include "core/cuda/cublaslt.h"
#include "core/memory/activation_arena.h"
#include "core/ops/bias_add/bias_add_cuda.h"
#include "glog/logging.h"

namespace strake {
namespace {

// `sums` may be undefined.
CudaProduct CudaProductOf(const Tensor& a, const Tensor& b, const MatmulOptions& options,
                          const MatmulSizes& sizes, const Tensor& sums, const Tensor& c) {
  CudaProduct product = {.m = sizes.m,
                         .n = sizes.n,
                         .k = sizes.k,
                         .transpose_a = options.transpose_a,
                         .transpose_b = options.transpose_b,
                         .accumulate = options.accumulate,
                         .input = a.dtype(),
                         .output = c.dtype(),
                         .a = a.raw(),
                         .b = b.raw(),
                         .bias = options.bias.raw(),
                         .c = c.raw()};
  if (options.gelu_input.defined()) {
    product.epilogue = CudaEpilogue::kGelu;
    product.gelu_input = options.gelu_input.raw();
  } else if (options.gelu_grad_input.defined()) {
    product.epilogue = CudaEpilogue::kGeluGrad;
    product.gelu_input = options.gelu_grad_input.raw();
  } else if (HasSums(options)) {
    product.epilogue = options.a_sums.defined() ? CudaEpilogue::kSumA : CudaEpilogue::kSumB;
    product.sums = static_cast<float*>(sums.raw());
  }
  return product;
}

// `options` without what is left to the ops that follow the product.
MatmulOptions Without(MatmulOptions options, const MatmulOptions& rest) {
  if (rest.bias.defined()) options.bias = Tensor();
  if (HasGelu(rest)) options.gelu_input = options.gelu_grad_input = Tensor();
  if (HasSums(rest)) options.a_sums = options.b_sums = Tensor();
  return options;
}

// Returns whether one call of the library computes all of `options`.
absl::StatusOr<bool> LibraryFuses(const Context& ctx, const Tensor& a, const Tensor& b,
                                  const MatmulOptions& options, const MatmulSizes& sizes,
                                  const Tensor& c) {
  if (!HasEpilogue(options) && !HasSums(options)) return true;
  const ActivationScope scope(ctx.arena());
  Tensor sums;
  if (HasSums(options)) sums = AllocateLibrarySums(ctx, a, b, options);
  const CudaProduct product = CudaProductOf(a, b, options, sizes, sums, c);
  if (!CublasLt::CanFuse(product)) return false;
  if (ctx.dry_run()) return true;
  STRAKE_ASSIGN_OR_RETURN(const int num_algorithms, ctx.cuda().cublaslt().NumAlgorithms(product));
  return num_algorithms > 0;
}

}  // namespace

// Leaves nothing to other ops if the library allows it, else all but the bias, else everything.
absl::StatusOr<MatmulOptions> RestOnCuda(const Context& ctx, const Tensor& a, const Tensor& b,
                                         const MatmulOptions& options, const MatmulSizes& sizes,
                                         const Tensor& c) {
  CHECK(a.dtype() == DType::kF32 || a.dtype() == DType::kBf16)
      << "[matmul] no CUDA implementation for " << DTypeName(a.dtype());
  MatmulOptions all_but_bias = options;
  all_but_bias.bias = Tensor();
  for (const MatmulOptions& rest : {MatmulOptions(), all_but_bias}) {
    const Tensor& to = HasGelu(rest) ? ProductOf(options, c) : c;
    STRAKE_ASSIGN_OR_RETURN(const bool fuses,
                            LibraryFuses(ctx, a, b, Without(options, rest), sizes, to));
    if (fuses) return rest;
  }
  return options;
}

Tensor AllocateLibrarySums(const Context& ctx, const Tensor& a, const Tensor& b,
                           const MatmulOptions& options) {
  const Tensor& summed = SummedOf(a, b, options);
  const int64_t rows = summed.dim(0), columns = summed.dim(1);
  return ctx.arena()
      .Allocate(DType::kF32, {cuda::BiasAddBackwardWorkspaceSize(rows, columns)})
      .Rows(0, columns);
}

absl::Status MultiplyOnCuda(const Context& ctx, const Tensor& a, const Tensor& b,
                            const MatmulOptions& options, const MatmulOptions& rest,
                            const MatmulSizes& sizes, const Tensor& sums, const Tensor& c) {
  const Tensor& to = HasGelu(rest) ? ProductOf(options, c) : c;
  return ctx.cuda().cublaslt().Multiply(
      ctx.cuda_stream(), CudaProductOf(a, b, Without(options, rest), sizes, sums, to));
}

}  // namespace strake
