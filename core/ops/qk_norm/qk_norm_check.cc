#include "core/ops/qk_norm/qk_norm_check.h"

#include <algorithm>

#include "core/ops/qk_norm/qk_norm.h"

namespace strake {
namespace {

QkNormHeads HeadsOf(const OpCall& call) {
  return {.kind = call.Get("whole") != 0 ? QkNormKind::kWhole : QkNormKind::kPerHead,
          .num_heads = call.GetInt("num_heads"),
          .num_kv_heads = call.GetInt("num_kv_heads"),
          .head_dim = call.GetInt("head_dim"),
          .num_ranks = static_cast<int>(call.GetInt("num_ranks"))};
}

// Columns that share a statistic, at most.
double GroupColumns(const OpCall& call) {
  return static_cast<double>(std::max(call.ShapeOf("query")[0], call.ShapeOf("key")[0]));
}

OpTensor NormWeight(const OpCall& call, const char* operand) {
  return In(call, operand, 1 - call.Get("weight_offset"), 0.1);
}

// Sums whose means are about 1.
OpTensor SumsOf(const OpCall& call) {
  const double columns = GroupColumns(call) * call.Get("num_ranks");
  return In(call, "sums", columns, columns / 10);
}

// The errors are those of a sum, a mean over a group, and a few operations on each element.
OpCheck ForwardCheck(const OpCall& call) {
  const Rounding rounding = {GroupColumns(call), 8};
  const bool keeps_raw = call.Has("raw"), has_sums = call.Has("sums");
  OpCheck check = {.tensors = {InOut(call, "qkv", rounding), NormWeight(call, "query"),
                               NormWeight(call, "key"), Out(call, "rstd", rounding)}};
  if (keeps_raw) check.tensors.push_back(Out(call, "raw", kExact));
  if (has_sums) check.tensors.push_back(SumsOf(call));
  check.run = [heads = HeadsOf(call), eps = call.Get("eps"), offset = call.Get("weight_offset"),
               keeps_raw, has_sums](const Context& ctx, const Tensors& t) {
    return QkNormForward(ctx, heads, {.query = t[1], .key = t[2], .offset = offset}, eps,
                         has_sums ? t.back() : Tensor(), t[0], keeps_raw ? t[4] : Tensor(), t[3]);
  };
  return check;
}

// rstd is that of elements with unit variance. Frozen weights have no gradients.
OpCheck BackwardCheck(const OpCall& call) {
  const QkNormHeads heads = HeadsOf(call);
  const double rows = static_cast<double>(call.ShapeOf("dy")[0]);
  const double heads_per_row =
      heads.kind == QkNormKind::kWhole ? 1 : static_cast<double>(heads.num_heads);
  const bool has_sums = call.Has("sums");
  OpCheck check = {.tensors = {InOut(call, "dy", {GroupColumns(call), 8}), In(call, "raw"),
                               In(call, "rstd", 1, 0.1), NormWeight(call, "query"),
                               NormWeight(call, "key")}};
  const bool trained = call.Has("dquery");
  if (trained) {
    check.tensors.push_back(Grad(call, "dquery", rows * heads_per_row, 8));
    check.tensors.push_back(Grad(call, "dkey", rows * heads_per_row, 8));
  }
  if (has_sums) check.tensors.push_back(SumsOf(call));
  check.run = [heads, offset = call.Get("weight_offset"), has_sums, trained](const Context& ctx,
                                                                             const Tensors& t) {
    return QkNormBackward(ctx, heads, {.query = t[3], .key = t[4], .offset = offset}, t[1], t[2],
                          has_sums ? t.back() : Tensor(), t[0], trained ? t[5] : Tensor(),
                          trained ? t[6] : Tensor());
  };
  return check;
}

// The weights' gradients alone.
OpCheck BackwardWeightCheck(const OpCall& call) {
  const QkNormHeads heads = HeadsOf(call);
  const double rows = static_cast<double>(call.ShapeOf("dy")[0]);
  const double terms =
      heads.kind == QkNormKind::kWhole ? rows : rows * static_cast<double>(heads.num_heads);
  return {.tensors = {In(call, "dy"), In(call, "raw"), In(call, "rstd", 1, 0.1),
                      NormWeight(call, "query"), NormWeight(call, "key"),
                      Grad(call, "dquery", terms, 8), Grad(call, "dkey", terms, 8)},
          .run = [heads](const Context& ctx, const Tensors& t) {
            return QkNormBackwardWeight(ctx, heads, {.query = t[3], .key = t[4]}, t[1], t[2], t[0],
                                        t[5], t[6]);
          }};
}

OpCheck ForwardSumsCheck(const OpCall& call) {
  const QkNormHeads heads = HeadsOf(call);
  const double terms = static_cast<double>(heads.num_heads * heads.head_dim);
  return {.tensors = {In(call, "qkv"), Out(call, "sums", {terms, 3})},
          .run = [heads](const Context& ctx, const Tensors& t) {
            return QkNormForwardSums(ctx, heads, t[0], t[1]);
          }};
}

OpCheck BackwardSumsCheck(const OpCall& call) {
  return {.tensors = {In(call, "dy"), In(call, "raw"), NormWeight(call, "query"),
                      NormWeight(call, "key"), Out(call, "sums", {GroupColumns(call), 4})},
          .run = [heads = HeadsOf(call), offset = call.Get("weight_offset")](const Context& ctx,
                                                                             const Tensors& t) {
            return QkNormBackwardSums(ctx, heads, {.query = t[2], .key = t[3], .offset = offset},
                                      t[1], t[0], t[4]);
          }};
}

}  // namespace

OpCheck QkNormCheck(const OpCall& call) {
  if (!call.Has("dy")) return ForwardCheck(call);
  const bool weights_only = call.Find("dy")->role != OpRole::kInOut;
  return weights_only ? BackwardWeightCheck(call) : BackwardCheck(call);
}

OpCheck QkNormSumsCheck(const OpCall& call) {
  return call.Has("dy") ? BackwardSumsCheck(call) : ForwardSumsCheck(call);
}

}  // namespace strake
