#include "core/ops/qk_norm/qk_norm.h"

#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "core/ops/qk_norm/qk_norm_cpu.h"
#include "core/ops/qk_norm/qk_norm_cuda.h"
#include "core/ops/qk_norm/qk_norm_reference.h"
#include "glog/logging.h"

namespace strake {
namespace {

bool IsMatrix(const Tensor& x, int64_t rows, int64_t columns, DType dtype) {
  return x.shape() == Shape{rows, columns} && x.dtype() == dtype;
}

// Checks the fused matrix, and what is undefined or has a row for each of its rows.
void CheckRows(const char* op, const QkNormHeads& heads, const Tensor& qkv, const Tensor& raw,
               const Tensor& rstd, const Tensor& sums) {
  CHECK(heads.num_heads > 0 && heads.num_kv_heads > 0 && heads.head_dim > 0 && qkv.rank() == 2)
      << "[" << op << "] " << heads.num_heads << " query heads and " << heads.num_kv_heads
      << " key/value heads of " << heads.head_dim << ", qkv " << qkv.ToString();
  const int64_t rows = qkv.dim(0);
  const DType dtype = qkv.dtype(), statistic = AccumulationDType(dtype);
  CHECK(qkv.dim(1) == heads.num_columns() &&
        (!raw.defined() || IsMatrix(raw, rows, heads.num_normalized(), dtype)) &&
        (!rstd.defined() || IsMatrix(rstd, rows, heads.num_groups(), statistic)) &&
        (!sums.defined() || IsMatrix(sums, rows, 2, statistic)))
      << "[" << op << "] " << heads.num_heads << " query heads and " << heads.num_kv_heads
      << " key/value heads of " << heads.head_dim << ", qkv or its gradient " << qkv.ToString()
      << ", raw " << raw.ToString() << ", rstd " << rstd.ToString() << ", sums " << sums.ToString();
}

int64_t WeightSize(const QkNormHeads& heads, int64_t num_heads) {
  return heads.kind == QkNormKind::kWhole ? num_heads * heads.head_dim : heads.head_dim;
}

void CheckWeights(const char* op, const QkNormHeads& heads, const QkNormWeights& weights,
                  DType dtype) {
  CHECK(weights.query.shape() == Shape{WeightSize(heads, heads.num_heads)} &&
        weights.key.shape() == Shape{WeightSize(heads, heads.num_kv_heads)} &&
        weights.query.dtype() == dtype && weights.key.dtype() == dtype)
      << "[" << op << "] " << heads.num_heads << " query heads and " << heads.num_kv_heads
      << " key/value heads of " << heads.head_dim << ", weights " << weights.query.ToString()
      << " and " << weights.key.ToString();
}

// CHECKs that sums come from all ranks, where there are several.
void CheckRanks(const char* op, const QkNormHeads& heads, const Tensor& sums) {
  CHECK(heads.num_ranks >= 1 && (heads.num_ranks == 1 || sums.defined()) &&
        (heads.kind == QkNormKind::kWhole || (heads.num_ranks == 1 && !sums.defined())))
      << "[" << op << "] " << (heads.kind == QkNormKind::kWhole ? "whole" : "per head") << " of "
      << heads.num_ranks << " ranks, sums " << sums.ToString();
}

template <typename T>
QkNormPart<T> PartOf(const QkNormHeads& heads, const Tensor& weight, int64_t first_head,
                     int64_t num_heads) {
  const bool whole = heads.kind == QkNormKind::kWhole;
  return {.first_column = first_head * heads.head_dim,
          .first_group = whole ? int64_t{first_head > 0} : first_head,
          .num_groups = whole ? 1 : num_heads,
          .group_columns = WeightSize(heads, num_heads),
          .weight = weight.defined() ? weight.data<T>() : nullptr};
}

template <typename T>
QkNormPart<T> QueryPart(const QkNormHeads& heads, const QkNormWeights& weights) {
  return PartOf<T>(heads, weights.query, 0, heads.num_heads);
}

template <typename T>
QkNormPart<T> KeyPart(const QkNormHeads& heads, const QkNormWeights& weights) {
  return PartOf<T>(heads, weights.key, heads.num_heads, heads.num_kv_heads);
}

// Bytes of the queries and keys of a fused matrix.
double NormalizedBytes(const QkNormHeads& heads, const Tensor& qkv) {
  return static_cast<double>(qkv.dim(0)) * heads.num_normalized() * DTypeSize(qkv.dtype());
}

void SetHeads(const QkNormHeads& heads, OpCall* call) {
  call->Set("whole", heads.kind == QkNormKind::kWhole)
      .Set("num_heads", heads.num_heads)
      .Set("num_kv_heads", heads.num_kv_heads)
      .Set("head_dim", heads.head_dim)
      .Set("num_ranks", heads.num_ranks);
}

// Computes the sums of a b (offset + weight), or of a^2 where b is undefined. `describe` adds the
// operands to the call.
template <typename Describe>
absl::Status Sums(const Context& ctx, const QkNormHeads& heads, const QkNormWeights& weights,
                  const Tensor& a, const Tensor& b, const Tensor& sums, const Describe& describe) {
  CHECK(heads.kind == QkNormKind::kWhole) << "[qk_norm_sums] of single heads";
  const bool on_cuda = OnCuda("qk_norm_sums", ctx, a, b, weights.query, weights.key, sums);
  const OpScope op(ctx, "qk_norm_sums", [&](OpCall& call) {
    describe(call);
    call.Out("sums", sums);
    SetHeads(heads, &call);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const auto args_of = [&]<typename T, typename Stat>() -> QkNormSumsArgs<T, Stat> {
    return {.parts = {QueryPart<T>(heads, weights), KeyPart<T>(heads, weights)},
            .rows = a.dim(0),
            .a = a.data<T>(),
            .a_columns = a.dim(1),
            .b = RowsOrNull<T>(b),
            .b_columns = heads.num_normalized(),
            .weight_offset = weights.offset,
            .sums = sums.data<Stat>()};
  };
  if (on_cuda) {
    return DispatchCuda("qk_norm_sums", a.dtype(), [&]<typename T>() {
      return cuda::QkNormSums<T>(ctx.cuda_stream(), args_of.template operator()<T, float>());
    });
  }
  const int64_t rows = a.dim(0), grain = RowGrain(heads.num_normalized());
  const bool done = RunCpuKernels("qk_norm_sums", ctx, a.dtype(), [&]<typename T>() {
    const auto args = args_of.template operator()<T, float>();
    ctx.team().ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(QkNormSums(args, begin, end));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("qk_norm_sums", a.dtype(), [&]<typename Scalar>() {
    const auto args = args_of.template operator()<Scalar, Scalar>();
    ctx.team().ParallelFor(
        rows, grain, [&](int64_t begin, int64_t end) { reference::QkNormSums(args, begin, end); });
  });
  return absl::OkStatus();
}

// CUDA's workspace of the backward pass, undefined on the CPU.
Tensor Workspace(const Context& ctx, int64_t rows, const QkNormWeights& weights, bool on_cuda) {
  if (!on_cuda) return Tensor();
  const int64_t columns = weights.query.dim(0) + weights.key.dim(0);
  return ctx.arena().Allocate(DType::kF32, {cuda::QkNormBackwardWorkspaceSize(rows, columns)});
}

// Checked operands; no dry run.
struct BackwardOperands {
  const Tensor &raw, &rstd, &sums, &dy, &dquery, &dkey;
  bool weights_only = false;
};

absl::Status RunBackward(const Context& ctx, const QkNormHeads& heads, const QkNormWeights& weights,
                         const BackwardOperands& o, bool on_cuda, const Tensor& workspace) {
  const auto args_of = [&]<typename T, typename Stat>() -> QkNormBackwardArgs<T, Stat> {
    return {.parts = {QueryPart<T>(heads, weights), KeyPart<T>(heads, weights)},
            .rows = o.dy.dim(0),
            .columns = o.dy.dim(1),
            .num_normalized = heads.num_normalized(),
            .num_groups = heads.num_groups(),
            .num_ranks = heads.num_ranks,
            .weight_offset = weights.offset,
            .raw = o.raw.data<T>(),
            .rstd = o.rstd.data<Stat>(),
            .sums = RowsOrNull<Stat>(o.sums),
            .dqkv = o.dy.data<T>(),
            .weights_only = o.weights_only,
            .dweights = {DataOrNull<Stat>(o.dquery), DataOrNull<Stat>(o.dkey)}};
  };
  if (on_cuda) {
    return DispatchCuda("qk_norm", o.dy.dtype(), [&]<typename T>() {
      auto args = args_of.template operator()<T, float>();
      args.workspace = workspace.data<float>();
      return cuda::QkNormBackward<T>(ctx.cuda_stream(), args);
    });
  }
  const int num_weights = o.dquery.defined() ? 2 : 0;
  const int64_t rows = o.weights_only ? 0 : o.dy.dim(0);
  const int64_t grain = RowGrain(heads.num_normalized());
  const bool done = RunCpuKernels("qk_norm", ctx, o.dy.dtype(), [&]<typename T>() {
    const auto args = args_of.template operator()<T, float>();
    // Columns first, because dx overwrites dy.
    for (int p = 0; p < num_weights; ++p) {
      ctx.team().ParallelFor(args.parts[p].group_columns, kColumnGrain,
                             [&](int64_t begin, int64_t end) {
                               STRAKE_CPU_RUN(QkNormBackwardWeight(args, p, begin, end));
                             });
    }
    ctx.team().ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(QkNormBackwardInput(args, begin, end));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("qk_norm", o.dy.dtype(), [&]<typename Scalar>() {
    const auto args = args_of.template operator()<Scalar, Scalar>();
    // Columns first, because dx overwrites dy.
    for (int p = 0; p < num_weights; ++p) {
      reference::QkNormBackwardWeight(args, p, 0, args.parts[p].group_columns);
    }
    ctx.team().ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      reference::QkNormBackwardInput(args, begin, end);
    });
  });
  return absl::OkStatus();
}

}  // namespace

absl::Status QkNormForward(const Context& ctx, const QkNormHeads& heads,
                           const QkNormWeights& weights, double eps, const Tensor& sums, Tensor qkv,
                           Tensor raw, Tensor rstd) {
  CHECK(rstd.defined()) << "[qk_norm] no rstd";
  CheckRows("qk_norm", heads, qkv, raw, rstd, sums);
  CheckWeights("qk_norm", heads, weights, qkv.dtype());
  CheckRanks("qk_norm", heads, sums);
  const bool on_cuda = OnCuda("qk_norm", ctx, qkv, weights.query, weights.key, sums, raw, rstd);
  const OpScope op(ctx, "qk_norm", [&](OpCall& call) {
    call.InOut("qkv", qkv, NormalizedBytes(heads, qkv))
        .In("query", weights.query)
        .In("key", weights.key)
        .In("sums", sums)
        .Out("raw", raw)
        .Out("rstd", rstd)
        .Set("eps", eps)
        .Set("weight_offset", weights.offset);
    SetHeads(heads, &call);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  const auto args_of = [&]<typename T, typename Stat>() -> QkNormForwardArgs<T, Stat> {
    return {.parts = {QueryPart<T>(heads, weights), KeyPart<T>(heads, weights)},
            .rows = qkv.dim(0),
            .columns = qkv.dim(1),
            .num_normalized = heads.num_normalized(),
            .num_groups = heads.num_groups(),
            .num_ranks = heads.num_ranks,
            .eps = eps,
            .weight_offset = weights.offset,
            .sums = RowsOrNull<Stat>(sums),
            .qkv = qkv.data<T>(),
            .raw = RowsOrNull<T>(raw),
            .rstd = rstd.data<Stat>()};
  };
  if (on_cuda) {
    return DispatchCuda("qk_norm", qkv.dtype(), [&]<typename T>() {
      return cuda::QkNormForward<T>(ctx.cuda_stream(), args_of.template operator()<T, float>());
    });
  }
  const int64_t rows = qkv.dim(0), grain = RowGrain(heads.num_normalized());
  const bool done = RunCpuKernels("qk_norm", ctx, qkv.dtype(), [&]<typename T>() {
    const auto args = args_of.template operator()<T, float>();
    ctx.team().ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      STRAKE_CPU_RUN(QkNormForward(args, begin, end));
    });
  });
  if (done) return absl::OkStatus();
  DispatchReference("qk_norm", qkv.dtype(), [&]<typename Scalar>() {
    const auto args = args_of.template operator()<Scalar, Scalar>();
    ctx.team().ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      reference::QkNormForward(args, begin, end);
    });
  });
  return absl::OkStatus();
}

absl::Status QkNormBackward(const Context& ctx, const QkNormHeads& heads,
                            const QkNormWeights& weights, const Tensor& raw, const Tensor& rstd,
                            const Tensor& sums, Tensor dqkv, Tensor dquery, Tensor dkey) {
  CHECK(raw.defined() && rstd.defined()) << "[qk_norm] no raw or no rstd";
  CheckRows("qk_norm", heads, dqkv, raw, rstd, sums);
  CheckWeights("qk_norm", heads, weights, dqkv.dtype());
  CheckGradient("qk_norm", weights.query, dquery);
  CheckGradient("qk_norm", weights.key, dkey);
  CHECK_EQ(dquery.defined(), dkey.defined()) << "[qk_norm] gradients of query, key";
  CheckRanks("qk_norm", heads, sums);
  const bool on_cuda =
      OnCuda("qk_norm", ctx, raw, rstd, weights.query, weights.key, sums, dqkv, dquery, dkey);
  const ActivationScope scope(ctx.arena());
  const Tensor workspace = Workspace(ctx, dqkv.dim(0), weights, on_cuda);
  const OpScope op(ctx, "qk_norm", [&](OpCall& call) {
    call.InOut("dy", dqkv, NormalizedBytes(heads, dqkv))
        .In("raw", raw)
        .In("rstd", rstd)
        .In("query", weights.query)
        .In("key", weights.key)
        .In("sums", sums)
        .InOut("dquery", dquery)
        .InOut("dkey", dkey)
        .Set("weight_offset", weights.offset);
    SetHeads(heads, &call);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  return RunBackward(
      ctx, heads, weights,
      {.raw = raw, .rstd = rstd, .sums = sums, .dy = dqkv, .dquery = dquery, .dkey = dkey}, on_cuda,
      workspace);
}

absl::Status QkNormBackwardWeight(const Context& ctx, const QkNormHeads& heads,
                                  const QkNormWeights& weights, const Tensor& raw,
                                  const Tensor& rstd, const Tensor& dy, Tensor dquery,
                                  Tensor dkey) {
  CHECK(dy.rank() == 2 && IsMatrix(dy, dy.dim(0), heads.num_normalized(), dy.dtype()) &&
        raw.shape() == dy.shape() && raw.dtype() == dy.dtype() &&
        IsMatrix(rstd, dy.dim(0), heads.num_groups(), AccumulationDType(dy.dtype())) &&
        dquery.defined() && dkey.defined())
      << "[qk_norm] " << heads.num_heads << " query heads and " << heads.num_kv_heads
      << " key/value heads of " << heads.head_dim << ", dy " << dy.ToString() << ", raw "
      << raw.ToString() << ", rstd " << rstd.ToString() << ", gradients " << dquery.ToString()
      << " and " << dkey.ToString();
  CheckWeights("qk_norm", heads, weights, dy.dtype());
  CheckGradient("qk_norm", weights.query, dquery);
  CheckGradient("qk_norm", weights.key, dkey);
  const bool on_cuda =
      OnCuda("qk_norm", ctx, raw, rstd, weights.query, weights.key, dy, dquery, dkey);
  const ActivationScope scope(ctx.arena());
  const Tensor workspace = Workspace(ctx, dy.dim(0), weights, on_cuda), no_sums;
  const OpScope op(ctx, "qk_norm", [&](OpCall& call) {
    call.In("dy", dy)
        .In("raw", raw)
        .In("rstd", rstd)
        .In("query", weights.query)
        .In("key", weights.key)
        .InOut("dquery", dquery)
        .InOut("dkey", dkey)
        .Set("weight_offset", weights.offset);
    SetHeads(heads, &call);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  return RunBackward(ctx, heads, weights,
                     {.raw = raw,
                      .rstd = rstd,
                      .sums = no_sums,
                      .dy = dy,
                      .dquery = dquery,
                      .dkey = dkey,
                      .weights_only = true},
                     on_cuda, workspace);
}

absl::Status QkNormForwardSums(const Context& ctx, const QkNormHeads& heads, const Tensor& qkv,
                               Tensor sums) {
  CHECK(sums.defined()) << "[qk_norm_sums] no sums";
  CheckRows("qk_norm_sums", heads, qkv, {}, {}, sums);
  return Sums(ctx, heads, {}, qkv, {}, sums,
              [&](OpCall& call) { call.In("qkv", qkv, NormalizedBytes(heads, qkv)); });
}

absl::Status QkNormBackwardSums(const Context& ctx, const QkNormHeads& heads,
                                const QkNormWeights& weights, const Tensor& raw, const Tensor& dqkv,
                                Tensor sums) {
  CHECK(raw.defined() && sums.defined()) << "[qk_norm_sums] no raw or no sums";
  CheckRows("qk_norm_sums", heads, dqkv, raw, {}, sums);
  CheckWeights("qk_norm_sums", heads, weights, dqkv.dtype());
  return Sums(ctx, heads, weights, dqkv, raw, sums, [&](OpCall& call) {
    call.In("dy", dqkv, NormalizedBytes(heads, dqkv))
        .In("raw", raw)
        .In("query", weights.query)
        .In("key", weights.key)
        .Set("weight_offset", weights.offset);
  });
}

}  // namespace strake
