#include "core/ops/bias_add/bias_add.h"
#include "core/ops/gelu/gelu.h"
#include "core/ops/matmul/matmul.h"
#include "core/ops/norm/layer_norm.h"
#include "core/ops/norm/rms_norm.h"
#include "core/ops/swiglu/swiglu.h"
#include "tools/checking/check_op_table.h"

namespace strake {
namespace {

Shape WeightShape(int64_t in, int64_t out, bool transposed) {
  return transposed ? Shape{out, in} : Shape{in, out};
}

}  // namespace

// A sum, means over a row, and a few operations on each element. In bf16 the norm may be that of
// the sum with the residual as it is stored: an element, and the row's statistics, begin so.
void OpTable::AddNorm(const std::string& layer, int64_t num_calls, bool residual) {
  const int64_t n = local_n_, c = c_.hidden_size;
  const double width = static_cast<double>(c), eps = c_.norm_eps;
  const double roundings = residual ? 10 : 8, stores = residual ? 1 : 0;
  OpTensor x = In("x", {n, c}, residual ? 0 : kResidualMean);
  if (residual) x = InOut(x, {0, 1});
  const OpTensor weight = In("weight", {c}, 1, 0.1),
                 y = Out("y", {n, c}, {width, roundings, 2 * stores});
  const Rounding statistic = {width, roundings, stores};
  const OpTensor rstd = Sum(Out("rstd", {n}, statistic));
  OpCheck check = {.op = gpt2_ ? "layer_norm" : "rms_norm",
                   .layers = layer,
                   .num_calls = num_calls,
                   .tensors = {}};
  if (gpt2_) {
    check.tensors = {x, weight, In("bias", {c}, 0, 0.1), y, Sum(Out("mean", {n}, statistic)), rstd};
  } else {
    check.tensors = {x, weight, y, rstd};
  }
  if (residual) check.tensors.push_back(In("residual", {n, c}, kResidualMean));
  check.run = [eps, residual, gpt2 = gpt2_](const Context& ctx, const Tensors& t) {
    const Tensor before = residual ? t.back() : Tensor(), sum = residual ? t[0] : Tensor();
    return gpt2 ? LayerNormForward(ctx,
                                   {.x = t[0],
                                    .residual = before,
                                    .weight = t[1],
                                    .bias = t[2],
                                    .sum = sum,
                                    .y = t[3],
                                    .mean = t[4],
                                    .rstd = t[5]},
                                   eps)
                : RmsNormForward(ctx, t[0], before, t[1], eps, sum, t[2], t[3]);
  };
  Add(std::move(check));
}

// dy becomes dx in the last norm; in a block dx is what the residual stream's gradient adds up to.
void OpTable::AddNormBackward(const std::string& layer, int64_t num_calls, bool accumulate) {
  const int64_t n = local_n_, c = c_.hidden_size;
  const double width = static_cast<double>(c), rows = static_cast<double>(n), eps = c_.norm_eps;
  const Rounding rounding = {width, 8};
  OpCheck check = {.op = gpt2_ ? "layer_norm" : "rms_norm",
                   .pass = Pass::kBackward,
                   .layers = layer,
                   .num_calls = num_calls,
                   .tensors = {In("x", {n, c}, kResidualMean), In("weight", {c}, 1, 0.1),
                               Sum(In("rstd", {n})), Grad("dweight", {c}, rows, 8)}};
  check.tensors.push_back(accumulate ? In("dy", {n, c}) : InOut(In("dx", {n, c}), rounding));
  if (accumulate) check.tensors.push_back(InOut(In("dx", {n, c}), rounding));
  const size_t dx = check.tensors.size() - 1;
  if (!gpt2_) {
    check.prepare = [eps](const Context& ctx, const Tensors& t) {
      const Tensor y = ctx.arena().Allocate(t[0].dtype(), t[0].shape());
      return RmsNormForward(ctx, t[0], {}, t[1], eps, {}, y, t[2]);
    };
    check.run = [accumulate, dx](const Context& ctx, const Tensors& t) {
      return RmsNormBackward(ctx, t[4], t[0], t[1], t[2], accumulate, t[dx], t[3]);
    };
    return Add(std::move(check));
  }
  check.tensors.push_back(Sum(In("mean", {n})));
  check.tensors.push_back(Grad("dbias", {c}, rows, 8));
  check.prepare = [eps, dx](const Context& ctx, const Tensors& t) {
    const Tensor y = ctx.arena().Allocate(t[0].dtype(), t[0].shape());
    return LayerNormForward(
        ctx, {.x = t[0], .weight = t[1], .bias = t[1], .y = y, .mean = t[dx + 1], .rstd = t[2]},
        eps);
  };
  check.run = [accumulate, dx](const Context& ctx, const Tensors& t) {
    return LayerNormBackward(ctx,
                             {.dy = t[4],
                              .x = t[0],
                              .weight = t[1],
                              .mean = t[dx + 1],
                              .rstd = t[2],
                              .dx = t[dx],
                              .dweight = t[3],
                              .dbias = t[dx + 2]},
                             accumulate);
  };
  Add(std::move(check));
}

// Bias and GELU are ops of their own where the library does not have them with the product: then
// what comes before them is stored, and GELU's slope is up to 1.13. They come first: a fault in one
// of them is named by it.
void OpTable::AddProduct(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                         ProductKind kind) {
  const int64_t n = kind.rows > 0 ? kind.rows : n_;
  if (kind.bias) AddBias(layer, n, out);
  if (kind.gelu) AddActivation();
  const double terms = static_cast<double>(in);
  OpCheck check = {
      .op = "matmul",
      .layers = layer,
      .num_calls = num_calls,
      .tensors = {In("x", {n, in}), Weight("weight", WeightShape(in, out, kind.transposed))}};
  if (kind.bias) check.tensors.push_back(In("bias", {out}));
  const Rounding u = {terms, kind.bias ? 4.0 : 3.0, kind.bias ? 1.0 : 0.0};
  const Rounding y = {terms, 12, 1.13 * (u.num_stores + 1)};
  if (kind.gelu) check.tensors.push_back(Out("u", {n, out}, u));
  check.tensors.push_back(Out("y", {n, out}, kind.gelu ? y : u));
  check.run = [kind](const Context& ctx, const Tensors& t) {
    MatmulOptions options = {.transpose_b = kind.transposed};
    size_t next = 2;
    if (kind.bias) options.bias = t[next++];
    if (kind.gelu) options.gelu_input = t[next++];
    return Matmul(ctx, t[0], t[1], options, t[next]);
  };
  Add(std::move(check), kind.transposed ? "transposed" : "");
}

void OpTable::AddRowParallelProduct(const std::string& layer, int64_t in) {
  const int64_t out = c_.hidden_size;
  AddProduct(layer, layers_, in, out, {.bias = gpt2_ && tp_ == 1});
  if (tp_ > 1) AddBias(layer, local_n_, out);
}

void OpTable::AddProductBackward(const std::string& layer, int64_t num_calls, int64_t in,
                                 int64_t out, ProductKind kind) {
  AddProductInput(layer, num_calls, in, out, kind);
  AddProductWeight(layer, num_calls, in, out, kind);
}

void OpTable::AddProductInput(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                              ProductKind kind) {
  const int64_t n = kind.rows > 0 ? kind.rows : n_;
  if (kind.gelu) AddActivationBackward();
  OpCheck check = {
      .op = "matmul",
      .pass = Pass::kBackward,
      .layers = layer,
      .num_calls = num_calls,
      .tensors = {In("dy", {n, out}), Weight("weight", WeightShape(in, out, kind.transposed)),
                  Out(kind.gelu ? "du" : "dx", {n, in},
                      {static_cast<double>(out), kind.gelu ? 28.0 : 3.0, kind.gelu ? 1.0 : 0.0})}};
  if (kind.gelu) check.tensors.push_back(In("u", {n, in}));
  check.run = [kind](const Context& ctx, const Tensors& t) {
    MatmulOptions options = {.transpose_b = !kind.transposed};
    if (kind.gelu) options.gelu_grad_input = t[3];
    return Matmul(ctx, t[0], t[1], options, t[2]);
  };
  Add(std::move(check), kind.transposed ? "transposed" : "");
}

void OpTable::AddProductWeight(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                               ProductKind kind) {
  const int64_t n = kind.rows > 0 ? kind.rows : n_;
  const bool transposed = kind.transposed;
  Add({.op = "matmul",
       .pass = Pass::kBackward,
       .layers = layer,
       .num_calls = num_calls,
       .tensors = {In("dy", {n, out}), In("x", {n, in}),
                   Grad("dweight", WeightShape(in, out, transposed), static_cast<double>(n))},
       .run =
           [transposed](const Context& ctx, const Tensors& t) {
             const Tensor &left = transposed ? t[0] : t[1], &right = transposed ? t[1] : t[0];
             return Matmul(ctx, left, right, {.transpose_a = true, .accumulate = true}, t[2]);
           }},
      transposed ? "transposed" : "");
}

void OpTable::AddBias(const std::string& layer, int64_t rows, int64_t columns) {
  if (!gpt2_) return;
  Add({.op = "bias_add",
       .layers = layer,
       .num_calls = layers_,
       .tensors = {In("bias", {columns}), InOut(In("y", {rows, columns}), {0, 1})},
       .run = [](const Context& ctx, const Tensors& t) {
         return BiasAddForward(ctx, t[1], t[0], t[1]);
       }});
}

void OpTable::AddBiasBackward(const std::string& layer, int64_t rows, int64_t columns) {
  if (!gpt2_) return;
  Add({.op = "bias_add",
       .pass = Pass::kBackward,
       .layers = layer,
       .num_calls = layers_,
       .tensors = {In("dy", {rows, columns}), Grad("dbias", {columns}, static_cast<double>(rows))},
       .run = [](const Context& ctx, const Tensors& t) {
         return BiasAddBackward(ctx, t[0], t[1]);
       }});
}

// An exponential and a few products for each element.
void OpTable::AddActivation() {
  const OpTensor u = In("u", {n_, up_width()}), y = Out("y", {n_, mlp_width()}, {0, 8});
  Add({.op = gpt2_ ? "gelu" : "swiglu",
       .layers = "mlp",
       .num_calls = layers_,
       .tensors = {u, y},
       .run = [gpt2 = gpt2_](const Context& ctx, const Tensors& t) {
         return gpt2 ? GeluForward(ctx, t[0], t[1]) : SwigluForward(ctx, t[0], t[1]);
       }});
}

// The gradient takes the place of GELU's dy, or SwiGLU's u. GELU's slope has terms that all but
// cancel.
void OpTable::AddActivationBackward() {
  const OpTensor dy = In("dy", {n_, mlp_width()}), u = In("u", {n_, up_width()});
  Add({.op = gpt2_ ? "gelu" : "swiglu",
       .pass = Pass::kBackward,
       .layers = "mlp",
       .num_calls = layers_,
       .tensors = {gpt2_ ? InOut(dy, {0, 25}) : dy, gpt2_ ? u : InOut(u, {0, 8})},
       .run = [gpt2 = gpt2_](const Context& ctx, const Tensors& t) {
         return gpt2 ? GeluBackward(ctx, t[0], t[1], t[0]) : SwigluBackward(ctx, t[0], t[1], t[1]);
       }});
}

}  // namespace strake
