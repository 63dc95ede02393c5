#include "core/ops/matmul/matmul_check.h"

#include "core/ops/matmul/matmul.h"

namespace strake {
namespace {

// The roundings behind each element of the product. Bias and GELU may be ops of their own, and what
// comes before them is then stored. GELU's slope is up to 1.13, and terms of its gradient nearly
// cancel.
Rounding RoundingOf(const OpCall& call, double terms) {
  const double stores = call.Has("bias") ? 1 : 0;
  if (call.Has("gelu_grad_input")) return {terms, 28, 1};
  if (call.Has("gelu_input")) return {terms, 12, 1.13 * (stores + 1)};
  return {terms, 3 + stores, stores};
}

}  // namespace

OpCheck MatmulCheck(const OpCall& call) {
  const bool transpose_a = call.Get("transpose_a") != 0, transpose_b = call.Get("transpose_b") != 0;
  const bool accumulate = call.Find("c")->role == OpRole::kInOut;
  const double terms = static_cast<double>(call.ShapeOf("a")[transpose_a ? 0 : 1]);
  const Rounding rounding = RoundingOf(call, terms);
  const bool bias = call.Has("bias"), gelu = call.Has("gelu_input"),
             gelu_grad = call.Has("gelu_grad_input"), a_sums = call.Has("a_sums"),
             b_sums = call.Has("b_sums");
  // Operands are activations or their gradients, except the weight that those are multiplied by.
  OpCheck check = {.tensors = {In(call, "a"), transpose_a ? In(call, "b") : Weight(call, "b")}};
  if (bias) check.tensors.push_back(In(call, "bias"));
  if (gelu) {
    check.tensors.push_back(Out(call, "gelu_input", {terms, bias ? 4.0 : 3.0, bias ? 1.0 : 0.0}));
  }
  if (gelu_grad) check.tensors.push_back(In(call, "gelu_grad_input"));
  if (a_sums) check.tensors.push_back(Grad(call, "a_sums", terms));
  if (b_sums) check.tensors.push_back(Grad(call, "b_sums", terms));
  check.tensors.push_back(accumulate ? InOut(call, "c", rounding) : Out(call, "c", rounding));
  check.run = [=](const Context& ctx, const Tensors& t) {
    MatmulOptions options = {
        .transpose_a = transpose_a, .transpose_b = transpose_b, .accumulate = accumulate};
    size_t next = 2;
    if (bias) options.bias = t[next++];
    if (gelu) options.gelu_input = t[next++];
    if (gelu_grad) options.gelu_grad_input = t[next++];
    if (a_sums) options.a_sums = t[next++];
    if (b_sums) options.b_sums = t[next++];
    return Matmul(ctx, t[0], t[1], options, t[next]);
  };
  return check;
}

}  // namespace strake
