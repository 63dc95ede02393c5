#include <cmath>

#include "core/ops/attention/causal_attention.h"
#include "core/ops/rope/rope.h"
#include "tools/checking/check_op_table.h"

namespace strake {
namespace {

// A relative error of a probability is an absolute error of a score: a sum of D products, and so
// about sqrt(D) roundings, and a few of scale, shift and exponential, of numbers up to the largest
// score, which queries and keys of unit variance give a size of |q| |k| / sqrt(D), about sqrt(D).
// The sum over keys has T terms. In bf16 a kernel may round each probability, or its gradient, to
// that before its product, which moves y by up to 2^-8 of the largest value; the largest of y, of
// which each sequence's first row is a value itself, is more than half of that: two stores.
Rounding AttentionRounding(const AttentionShape& shape) {
  const double root = std::sqrt(static_cast<double>(shape.head_dim));
  return {static_cast<double>(shape.seq_len), (root + 4) * (1 + root), 2};
}

}  // namespace

void OpTable::AddRope(Pass pass) {
  if (gpt2_) return;
  const int64_t num_heads = heads_.num_heads + heads_.num_kv_heads;
  const char* name = pass == Pass::kForward ? "qkv" : "dqkv";
  Add({.op = "rope",
       .pass = pass,
       .layers = "attention",
       .num_calls = layers_,
       .tensors = {InOut(In(name, {n_, qkv_width()}), {0, 3}),
                   F64(In("table", {seq_len_, c_.head_dim}))},
       .run =
           [num_heads, seq_len = seq_len_, pass](const Context& ctx, const Tensors& t) {
             if (pass == Pass::kBackward) return RopeBackward(ctx, t[1], num_heads, seq_len, t[0]);
             return RopeForward(ctx, t[1], num_heads, seq_len, /*position_offset=*/0, t[0]);
           },
       .prepare =
           [config = c_.rope](const Context& ctx, const Tensors& t) {
             if (!ctx.dry_run()) RopeTable(config, t[1]);
             return absl::OkStatus();
           }});
}

void OpTable::AddAttention() {
  const Rounding rounding = AttentionRounding(heads_);
  Add({.op = "causal_attention",
       .layers = "attention",
       .num_calls = layers_,
       .tensors = {In("qkv", {n_, qkv_width()}), Out("y", {n_, attention_width()}, rounding),
                   Sum(Out("lse", {heads_.batch, heads_.num_heads, seq_len_},
                           {rounding.num_terms, rounding.num_roundings}))},
       .run = [shape = heads_](const Context& ctx, const Tensors& t) {
         return CausalAttentionForward(ctx, t[0], shape, t[1], t[2]);
       }});
}

// Two products deep: the rounding of dp comes on top of that of p.
void OpTable::AddAttentionBackward() {
  const Rounding rounding = AttentionRounding(heads_);
  Add({.op = "causal_attention",
       .pass = Pass::kBackward,
       .layers = "attention",
       .num_calls = layers_,
       .tensors = {In("dy", {n_, attention_width()}), In("qkv", {n_, qkv_width()}),
                   In("y", {n_, attention_width()}),
                   Sum(In("lse", {heads_.batch, heads_.num_heads, seq_len_})),
                   Out("dqkv", {n_, qkv_width()},
                       {4 * rounding.num_terms, 2 * rounding.num_roundings,
                        2 * rounding.num_stores})},
       .run =
           [shape = heads_](const Context& ctx, const Tensors& t) {
             return CausalAttentionBackward(ctx, t[0], t[1], t[2], t[3], shape, t[4]);
           },
       .prepare =
           [shape = heads_](const Context& ctx, const Tensors& t) {
             return CausalAttentionForward(ctx, t[1], shape, t[2], t[3]);
           }});
}

}  // namespace strake
