#include "core/ops/matmul/matmul.h"

#include <algorithm>
#include <string>

#include "absl/container/fixed_array.h"
#include "absl/strings/str_cat.h"
#include "core/base/signal_block.h"
#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "core/ops/activation/activation.h"
#include "core/ops/activation/activation_cpu.h"
#include "core/ops/bias_add/bias_add.h"
#include "core/ops/copy/copy.h"
#include "core/ops/cpu/convert_cpu.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/matmul/blocked_matmul_cpu.h"
#include "core/ops/matmul/cublaslt_matmul.h"
#include "core/ops/matmul/few_rows_matmul_cpu.h"
#include "core/ops/matmul/matmul_epilogue.h"
#include "core/ops/matmul/matmul_grid.h"
#include "core/ops/matmul/matmul_reference.h"
#include "core/ops/matmul/onednn_matmul.h"
#include "core/ops/residual_add/residual_add.h"
#include "glog/logging.h"

namespace strake {
namespace {

using Sizes = MatmulSizes;

constexpr ActivationKind kGelu = ActivationKind::kGeluTanh;

std::string ShapesString(const Tensor& a, const Tensor& b, const MatmulOptions& options,
                         const Tensor& c) {
  const auto named = [](const char* name, const Tensor& tensor) {
    return tensor.defined() ? absl::StrCat(", ", name, " ", tensor.ToString()) : "";
  };
  return absl::StrCat("a ", a.ToString(), options.transpose_a ? " transposed" : "", named("b", b),
                      options.transpose_b ? " transposed" : "", named("c", c),
                      options.accumulate ? " accumulated" : "", named("bias", options.bias),
                      named("gelu_input", options.gelu_input),
                      named("gelu_grad_input", options.gelu_grad_input),
                      named("a_sums", options.a_sums), named("b_sums", options.b_sums));
}

bool EpilogueFits(const MatmulOptions& options, const Tensor& c) {
  const auto fits = [&c](const Tensor& tensor, const Shape& shape) {
    return !tensor.defined() || (tensor.shape() == shape && tensor.dtype() == c.dtype());
  };
  return !options.accumulate &&
         !(options.gelu_grad_input.defined() &&
           (options.gelu_input.defined() || options.bias.defined())) &&
         fits(options.bias, {c.dim(1)}) && fits(options.gelu_input, c.shape()) &&
         fits(options.gelu_grad_input, c.shape());
}

bool SumsFit(const Tensor& a, const MatmulOptions& options, const Tensor& c) {
  const bool of_a = options.a_sums.defined(), of_b = options.b_sums.defined();
  return !(of_a && of_b) && !HasEpilogue(options) &&
         (of_a ? options.transpose_a : !options.transpose_b) &&
         SumsOf(options).shape() == Shape{c.dim(of_a ? 0 : 1)} &&
         SumsOf(options).dtype() == AccumulationDType(a.dtype());
}

Sizes CheckShapes(const Tensor& a, const Tensor& b, const MatmulOptions& options, const Tensor& c) {
  const bool matrices = a.rank() == 2 && b.rank() == 2 && c.rank() == 2;
  const Sizes sizes = {matrices ? c.dim(0) : 0, matrices ? c.dim(1) : 0,
                       matrices ? a.dim(options.transpose_a ? 0 : 1) : 0};
  const bool has_epilogue = HasEpilogue(options);
  CHECK(matrices && a.dim(options.transpose_a ? 1 : 0) == sizes.m &&
        b.dim(options.transpose_b ? 1 : 0) == sizes.k &&
        b.dim(options.transpose_b ? 0 : 1) == sizes.n && b.dtype() == a.dtype() &&
        (c.dtype() == a.dtype() || (!has_epilogue && c.dtype() == AccumulationDType(a.dtype()))) &&
        (!has_epilogue || EpilogueFits(options, c)) &&
        (!HasSums(options) || SumsFit(a, options, c)))
      << "[matmul] " << ShapesString(a, b, options, c);
  return sizes;
}

template <typename Scalar>
void Reference(const Context& ctx, const Tensor& a, const Tensor& b, const MatmulOptions& options,
               const Sizes& sizes, const Tensor& c) {
  const reference::MatmulArgs<Scalar> args = {.a = a.data<Scalar>(),
                                              .b = b.data<Scalar>(),
                                              .m = sizes.m,
                                              .n = sizes.n,
                                              .k = sizes.k,
                                              .transpose_a = options.transpose_a,
                                              .transpose_b = options.transpose_b,
                                              .accumulate = options.accumulate,
                                              .c = c.data<Scalar>()};
  const int64_t tiles = reference::MatmulTiles(sizes.m, sizes.n).count;
  ctx.team().ParallelFor(tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) reference::Matmul(args, tile);
  });
}

// Calls body(a, b, c) with the pointers of a product's tensors: all f32, or bf16 with c in either.
template <typename Body>
void DispatchProduct(const Tensor& a, const Tensor& b, const Tensor& c, const Body& body) {
  if (a.dtype() == DType::kF32) return body(a.data<float>(), b.data<float>(), c.data<float>());
  if (c.dtype() == DType::kF32) return body(a.data<Bf16>(), b.data<Bf16>(), c.data<float>());
  return body(a.data<Bf16>(), b.data<Bf16>(), c.data<Bf16>());
}

// A few rows are limited by memory, and there the library is not the fastest.
bool TakesFewRows(const Context& ctx, DType dtype, const MatmulOptions& options,
                  const Sizes& sizes) {
  return ctx.arena().device() == Device::kCpu && HasCpuKernels("matmul", ctx, dtype) &&
         sizes.m <= cpu::kMaxFewRows && (sizes.m == 1 || !options.transpose_a);
}

// Of bf16, `wide` [m, k] becomes a in f32, so that no thread converts it for each part of b.
void MultiplyFewRows(const Context& ctx, const Tensor& a, const Tensor& b,
                     const MatmulOptions& options, const Sizes& sizes, const Tensor& wide,
                     const Tensor& c) {
  if (wide.defined()) {
    STRAKE_CPU_RUN(Convert(a.data<Bf16>(), a.num_elements(), wide.data<float>()));
  }
  const float* rows = wide.defined() ? wide.data<float>() : a.data<float>();
  DispatchProduct(a, b, c, [&]<typename T, typename C>(const T*, const T* right, C* out) {
    const cpu::FewRowsProduct<T, C> product = {.m = sizes.m,
                                               .n = sizes.n,
                                               .k = sizes.k,
                                               .transpose_b = options.transpose_b,
                                               .accumulate = options.accumulate,
                                               .a = rows,
                                               .b = right,
                                               .c = out};
    // Whole cache lines of columns for each thread, and at least 4096 elements of b.
    const int64_t grain = kColumnGrain * std::max<int64_t>(1, 4096 / kColumnGrain / sizes.k);
    ctx.team().ParallelFor(sizes.n, grain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(FewRowsMatmul(product, begin, end));
    });
  });
}

// Chooses what computes a product of more rows on the CPU. It chooses by shape, so that no
// restart changes bits. In f32 without AVX-512, and for small matrices with it, Strake's own kernel
// is the faster one; docs/performance.md has the figures.
bool LibraryIsFaster(DType dtype, const Sizes& sizes) {
  if (cpu::CurrentIsa() != cpu::Isa::kAvx512) return false;
  if (dtype == DType::kBf16) return true;
  constexpr int64_t kSmallMatrix = 1 << 17, kFewRows = 64;
  const auto [m, n, k] = sizes;
  return std::min({m * n, m * k, n * k}) > kSmallMatrix || std::min({m, n, k}) < kFewRows;
}

bool TakesBlocks(const Context& ctx, DType dtype, const MatmulOptions& options,
                 const Sizes& sizes) {
  return ctx.arena().device() == Device::kCpu && HasCpuKernels("matmul", ctx, dtype) &&
         !TakesFewRows(ctx, dtype, options, sizes) &&
         !(cpu::CanMultiply(dtype) && LibraryIsFaster(dtype, sizes));
}

// Blocks that take the library some hundred microseconds. It copies a block of each operand, so
// smaller ones cost more. With AVX-512 its kernel for f32 sums 48 columns at a time.
constexpr cpu::MatmulBlockLimits kLibraryLimits = {
    .row_grain = 16, .column_grain = 48, .rows = 512, .columns = 512};

void MultiplyByLibrary(const Context& ctx, const Tensor& a, const Tensor& b,
                       const MatmulOptions& options, const Sizes& sizes, const Tensor& c) {
  const cpu::Product product = {.m = sizes.m,
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
  cpu::MatmulBlockLimits limits = kLibraryLimits;
  // oneDNN's fastest kernel for bf16 takes no columns of a matrix, only whole rows.
  const int64_t num_row_blocks = sizes.m / limits.row_grain;
  if (a.dtype() == DType::kBf16 && !options.transpose_a &&
      num_row_blocks >= ctx.team().num_threads()) {
    limits.columns = limits.column_grain = sizes.n;
  }
  const cpu::MatmulGrid grid(sizes.m, sizes.n, ctx.team().num_threads(), limits);
  const SignalBlock signals_wait;  // the team's other threads take none
  ctx.team().ParallelForTasks(
      grid.num_blocks(), [&](int, int64_t block) { cpu::Multiply(product, grid.Block(block)); });
}

// [threads, floats].
Tensor BlockScratch(const Context& ctx, DType output) {
  return ctx.arena().Allocate(
      DType::kF32, {ctx.team().num_threads(), STRAKE_CPU_RUN(BlockedMatmulScratch(output))});
}

// Applies the rest of the epilogue to a range of the product that is still in cache. `u`:
// ProductOf().
template <typename C>
void ApplyGelu(const MatmulOptions& options, const cpu::MatmulRange& range, int64_t n, C* u,
               const Tensor& c) {
  const int64_t size = range.column_end - range.column_begin;
  for (int64_t row = range.row_begin; row < range.row_end; ++row) {
    const int64_t at = row * n + range.column_begin;
    if (options.gelu_input.defined()) {
      STRAKE_CPU_RUN(ActivationForward(kGelu, u + at, size, c.data<C>() + at));
    } else if (options.gelu_grad_input.defined()) {
      STRAKE_CPU_RUN(
          ActivationBackward(kGelu, u + at, options.gelu_grad_input.data<C>() + at, size, u + at));
    }
  }
}

// Includes the whole epilogue.
void MultiplyBlocks(const Context& ctx, const Tensor& a, const Tensor& b,
                    const MatmulOptions& options, const Sizes& sizes, const Tensor& scratch,
                    const Tensor& c) {
  const cpu::MatmulGrid grid(sizes.m, sizes.n, ctx.team().num_threads(), cpu::kBlockedMatmulLimits);
  absl::FixedArray<cpu::MatmulScratch> threads(ctx.team().num_threads());
  for (size_t i = 0; i < threads.size(); ++i) {
    threads[i].data = scratch.data<float>() + i * scratch.dim(1);
  }
  const Tensor& u = ProductOf(options, c);
  DispatchProduct(a, b, u, [&]<typename T, typename C>(const T* left, const T* right, C* out) {
    const cpu::BlockedProduct<T, C> product = {
        .m = sizes.m,
        .n = sizes.n,
        .k = sizes.k,
        .transpose_a = options.transpose_a,
        .transpose_b = options.transpose_b,
        .accumulate = options.accumulate,
        .a = left,
        .b = right,
        .bias = options.bias.defined() ? options.bias.data<C>() : nullptr,
        .c = out};
    ctx.team().ParallelForTasks(grid.num_blocks(), [&](int thread, int64_t block) {
      const cpu::MatmulRange range = grid.Block(block);
      STRAKE_CPU_RUN(BlockedMatmul(product, range, &threads[thread]));
      ApplyGelu(options, range, sizes.n, out, c);
    });
  });
}

// What MultiplyOnCpu() needs; undefined where that is nothing.
Tensor CpuScratch(const Context& ctx, const Tensor& a, const MatmulOptions& options,
                  const Sizes& sizes, const Tensor& c) {
  if (TakesBlocks(ctx, a.dtype(), options, sizes)) return BlockScratch(ctx, c.dtype());
  if (a.dtype() == DType::kF32 || !TakesFewRows(ctx, a.dtype(), options, sizes)) return Tensor();
  return ctx.arena().Allocate(DType::kF32, {sizes.m, sizes.k});
}

void MultiplyOnCpu(const Context& ctx, const Tensor& a, const Tensor& b,
                   const MatmulOptions& options, const Sizes& sizes, const Tensor& scratch,
                   const Tensor& c) {
  if (TakesBlocks(ctx, a.dtype(), options, sizes)) {
    return MultiplyBlocks(ctx, a, b, options, sizes, scratch, c);
  }
  const Tensor& u = ProductOf(options, c);
  if (!HasCpuKernels("matmul", ctx, a.dtype())) {
    return DispatchReference("matmul", a.dtype(), [&]<typename Scalar>() {
      Reference<Scalar>(ctx, a, b, options, sizes, u);
    });
  }
  if (TakesFewRows(ctx, a.dtype(), options, sizes)) {
    return MultiplyFewRows(ctx, a, b, options, sizes, scratch, u);
  }
  MultiplyByLibrary(ctx, a, b, options, sizes, u);
}

// The part of the epilogue that the product leaves to the ops that follow it.
absl::StatusOr<MatmulOptions> RestOf(const Context& ctx, const Tensor& a, const Tensor& b,
                                     const MatmulOptions& options, const Sizes& sizes,
                                     const Tensor& c) {
  if (ctx.arena().device() == Device::kCuda) return RestOnCuda(ctx, a, b, options, sizes, c);
  MatmulOptions rest = options;
  if (TakesBlocks(ctx, a.dtype(), options, sizes)) {
    rest.bias = rest.gelu_input = rest.gelu_grad_input = Tensor();
  } else if (HasCpuKernels("matmul", ctx, a.dtype()) &&
             !TakesFewRows(ctx, a.dtype(), options, sizes)) {
    rest.bias = Tensor();  // the library adds it
  }
  return rest;
}

void Describe(const Tensor& a, const Tensor& b, const MatmulOptions& options,
              const MatmulOptions& rest, const Sizes& sizes, const Tensor& c, OpCall* call) {
  call->In("a", a).In("b", b).Set("transpose_a", options.transpose_a);
  call->Set("transpose_b", options.transpose_b).Flops(2.0 * sizes.m * sizes.n * sizes.k);
  if (!rest.bias.defined()) call->In("bias", options.bias);
  if (!HasGelu(rest)) {
    call->Out("gelu_input", options.gelu_input).In("gelu_grad_input", options.gelu_grad_input);
  }
  if (!HasSums(rest)) call->InOut("a_sums", options.a_sums).InOut("b_sums", options.b_sums);
  options.accumulate ? call->InOut("c", c) : call->Out("c", c);
}

absl::Status ApplyEpilogue(const Context& ctx, const Tensor& a, const Tensor& b,
                           const MatmulOptions& options, const Tensor& c) {
  if (HasSums(options)) return BiasAddBackward(ctx, SummedOf(a, b, options), SumsOf(options));
  if (options.bias.defined()) {
    const Tensor& u = ProductOf(options, c);
    STRAKE_RETURN_IF_ERROR(BiasAddForward(ctx, u, options.bias, u));
  }
  if (options.gelu_input.defined()) return ActivationForward(ctx, kGelu, options.gelu_input, c);
  if (options.gelu_grad_input.defined())
    return ActivationBackward(ctx, kGelu, c, options.gelu_grad_input, c);
  return absl::OkStatus();
}

}  // namespace

absl::Status Matmul(const Context& ctx, const Tensor& a, const Tensor& b,
                    const MatmulOptions& options, Tensor c) {
  const Sizes sizes = CheckShapes(a, b, options, c);
  const bool on_cuda = OnCuda("matmul", ctx, a, b, c, options.bias, options.gelu_input,
                              options.gelu_grad_input, SumsOf(options));
  if (c.num_elements() == 0 && !HasSums(options)) return absl::OkStatus();
  if (c.num_elements() == 0 || sizes.k == 0) {
    if (!options.accumulate) STRAKE_RETURN_IF_ERROR(SetZero(ctx, ProductOf(options, c)));
    return ApplyEpilogue(ctx, a, b, options, c);
  }
  const ActivationScope scope(ctx.arena());
  const Tensor scratch = CpuScratch(ctx, a, options, sizes, c);
  Tensor sums;
  STRAKE_ASSIGN_OR_RETURN(const MatmulOptions rest, RestOf(ctx, a, b, options, sizes, c));
  if (HasSums(options) && !HasSums(rest)) sums = AllocateLibrarySums(ctx, a, b, options);
  {
    const OpScope op(ctx, "matmul",
                     [&](OpCall& call) { Describe(a, b, options, rest, sizes, c, &call); });
    if (ctx.dry_run()) {
      // There is nothing to multiply.
    } else if (on_cuda) {
      STRAKE_RETURN_IF_ERROR(MultiplyOnCuda(ctx, a, b, options, rest, sizes, sums, c));
    } else {
      MultiplyOnCpu(ctx, a, b, options, sizes, scratch, c);
    }
  }
  if (sums.defined()) return ResidualAddForward(ctx, SumsOf(options), sums, SumsOf(options));
  return ApplyEpilogue(ctx, a, b, rest, c);
}

}  // namespace strake
