#include "core/ops/bias_add.h"
#include "core/ops/gelu.h"
#include "core/ops/layer_norm.h"
#include "core/ops/matmul.h"
#include "core/ops/residual_add.h"
#include "core/ops/rms_norm.h"
#include "core/ops/swiglu.h"
#include "tools/check_op_table.h"

namespace strake {
namespace {

Shape WeightShape(int64_t in, int64_t out, bool transposed) {
  return transposed ? Shape{out, in} : Shape{in, out};
}

}  // namespace

// Means over a row, and a few operations on each element.
void OpTable::AddNorm(const std::string& layer, int64_t num_calls) {
  const int64_t n = local_n_, c = c_.hidden_size;
  const double width = static_cast<double>(c), eps = c_.norm_eps;
  const OpTensor x = In("x", {n, c}, kResidualMean), weight = In("weight", {c}, 1, 0.1);
  const OpTensor y = Out("y", {n, c}, {width, 8}), rstd = Out("rstd", {n}, {width, 8});
  if (!gpt2_) {
    Add({.op = "rms_norm",
         .layers = layer,
         .num_calls = num_calls,
         .tensors = {x, weight, y, rstd},
         .run = [eps](const Context& ctx, const Tensors& t) {
           return RmsNormForward(ctx, t[0], {}, t[1], eps, {}, t[2], t[3]);
         }});
    return;
  }
  Add({.op = "layer_norm",
       .layers = layer,
       .num_calls = num_calls,
       .tensors = {x, weight, In("bias", {c}, 0, 0.1), y, Out("mean", {n}, {width, 8}), rstd},
       .run = [eps](const Context& ctx, const Tensors& t) {
         return LayerNormForward(ctx, t[0], {}, t[1], t[2], eps, {}, t[3], t[4], t[5]);
       }});
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
                               In("rstd", {n}), Grad("dweight", {c}, rows, 8)}};
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
  check.tensors.push_back(In("mean", {n}));
  check.tensors.push_back(Grad("dbias", {c}, rows, 8));
  check.prepare = [eps, dx](const Context& ctx, const Tensors& t) {
    const Tensor y = ctx.arena().Allocate(t[0].dtype(), t[0].shape());
    return LayerNormForward(ctx, t[0], {}, t[1], t[1], eps, {}, y, t[dx + 1], t[2]);
  };
  check.run = [accumulate, dx](const Context& ctx, const Tensors& t) {
    return LayerNormBackward(ctx, t[4], t[0], t[1], t[dx + 1], t[2], accumulate, t[dx], t[3],
                             t[dx + 2]);
  };
  Add(std::move(check));
}

void OpTable::AddProduct(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                         bool transposed) {
  Add({.op = "matmul",
       .layers = layer,
       .num_calls = num_calls,
       .tensors = {In("x", {n_, in}), Weight("weight", WeightShape(in, out, transposed)),
                   Out("y", {n_, out}, {static_cast<double>(in), 3})},
       .run =
           [transposed](const Context& ctx, const Tensors& t) {
             return Matmul(ctx, t[0], t[1], {.transpose_b = transposed}, t[2]);
           }},
      transposed ? "transposed" : "");
}

void OpTable::AddProductBackward(const std::string& layer, int64_t num_calls, int64_t in,
                                 int64_t out, bool transposed) {
  AddProductInput(layer, num_calls, in, out, transposed);
  AddProductWeight(layer, num_calls, in, out, transposed);
}

void OpTable::AddProductInput(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                              bool transposed) {
  Add({.op = "matmul",
       .pass = Pass::kBackward,
       .layers = layer,
       .num_calls = num_calls,
       .tensors = {In("dy", {n_, out}), Weight("weight", WeightShape(in, out, transposed)),
                   Out("dx", {n_, in}, {static_cast<double>(out), 3})},
       .run =
           [transposed](const Context& ctx, const Tensors& t) {
             return Matmul(ctx, t[0], t[1], {.transpose_b = !transposed}, t[2]);
           }},
      transposed ? "transposed" : "");
}

void OpTable::AddProductWeight(const std::string& layer, int64_t num_calls, int64_t in, int64_t out,
                               bool transposed) {
  Add({.op = "matmul",
       .pass = Pass::kBackward,
       .layers = layer,
       .num_calls = num_calls,
       .tensors = {In("dy", {n_, out}), In("x", {n_, in}),
                   Grad("dweight", WeightShape(in, out, transposed), static_cast<double>(n_))},
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

void OpTable::AddResidual(const std::string& layer) {
  const Shape shape = {local_n_, c_.hidden_size};
  Add({.op = "residual_add",
       .layers = layer,
       .num_calls = layers_,
       .tensors = {In("x", shape), InOut(In("y", shape), {0, 1})},
       .run = [](const Context& ctx, const Tensors& t) {
         return ResidualAddForward(ctx, t[1], t[0], t[1]);
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

// The gradient takes the place of u. GELU's slope has terms that all but cancel.
void OpTable::AddActivationBackward() {
  Add({.op = gpt2_ ? "gelu" : "swiglu",
       .pass = Pass::kBackward,
       .layers = "mlp",
       .num_calls = layers_,
       .tensors = {In("dy", {n_, mlp_width()}),
                   InOut(In("u", {n_, up_width()}), {0, gpt2_ ? 25.0 : 8.0})},
       .run = [gpt2 = gpt2_](const Context& ctx, const Tensors& t) {
         return gpt2 ? GeluBackward(ctx, t[0], t[1], t[1]) : SwigluBackward(ctx, t[0], t[1], t[1]);
       }});
}

}  // namespace strake
