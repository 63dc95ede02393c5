#include "core/ops/attention/causal_attention.h"

#include <algorithm>

#include "core/cuda/cudnn_attention.h"
#include "core/cuda/cudnn_attention_shape.h"
#include "core/memory/activation_arena.h"
#include "core/ops/attention/attention_call.h"
#include "core/ops/attention/causal_attention_cpu.h"
#include "core/ops/attention/causal_attention_cuda.h"
#include "core/ops/attention/causal_attention_reference.h"
#include "core/ops/dispatch.h"
#include "glog/logging.h"

namespace strake {
namespace {

void CheckShapes(const char* op, const Tensor& qkv, const AttentionShape& shape, const Tensor& y,
                 const Tensor& lse) {
  const int64_t batch = shape.batch, seq_len = shape.seq_len, num_heads = shape.num_heads;
  const int64_t num_kv_heads = shape.num_kv_heads, head_dim = shape.head_dim;
  CHECK(batch >= 0 && seq_len >= 0 && num_heads > 0 && num_kv_heads > 0 && head_dim > 0 &&
        num_heads % num_kv_heads == 0 && shape.HasValidScores() &&
        qkv.shape() == Shape({batch * seq_len, (num_heads + 2 * num_kv_heads) * head_dim}) &&
        y.shape() == Shape({batch * seq_len, num_heads * head_dim}) &&
        lse.shape() == Shape({batch, num_heads, seq_len}) && y.dtype() == qkv.dtype() &&
        lse.dtype() == AccumulationDType(qkv.dtype()))
      << "[" << op << "] qkv or gradient " << qkv.ToString() << ", y or gradient " << y.ToString()
      << ", lse " << lse.ToString() << ", batch " << batch << ", seq_len " << seq_len
      << ", num_heads " << num_heads << ", num_kv_heads " << num_kv_heads << ", head_dim "
      << head_dim << ", window " << shape.window << ", score_scale " << shape.score_scale
      << ", score_softcap " << shape.score_softcap;
}

// Counts only the products, of pairs that a mask leaves: two in the forward pass, five in the
// backward pass.
double ForwardFlops(const AttentionShape& shape, const Documents& documents) {
  double pairs = 0;
  AttentionShape document = shape;
  for (const int64_t length : documents.lengths) {
    document.seq_len = length;
    pairs += document.NumPairs();
  }
  if (!documents.defined()) pairs = shape.batch * shape.NumPairs();
  return 4.0 * shape.num_heads * shape.head_dim * pairs;
}

// Only where there are documents, so that the calls without keep their texts.
void SetDocuments(const Documents& documents, OpCall* call) {
  if (!documents.defined()) return;
  call->In("positions", documents.positions).Set("num_documents", documents.lengths.size());
}

// Those of the sequence `batch`, or null.
const int32_t* Positions(const Documents& documents, const AttentionShape& shape, int64_t batch) {
  if (!documents.defined()) return nullptr;
  return documents.positions.data<int32_t>() + batch * shape.seq_len;
}

// Returns whether the CPU's kernels run, in tiles.
bool Tiled(const Context& ctx, const Tensor& x) {
  return ctx.arena().device() == Device::kCpu && HasCpuKernels("causal_attention", ctx, x.dtype());
}

// Locates the heads in a row of a fused matrix.
struct FusedHeads {
  explicit FusedHeads(const AttentionShape& shape)
      : stride((shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim),
        k(shape.num_heads * shape.head_dim),
        v(k + shape.num_kv_heads * shape.head_dim) {}
  int64_t stride, k, v;
};

template <typename T>
cpu::AttentionInputs<T> Inputs(const Tensor& qkv, const AttentionShape& shape) {
  const FusedHeads heads(shape);
  const T* data = qkv.data<T>();
  return {data, heads.stride, data + heads.k, data + heads.v, heads.stride};
}

template <typename Scalar>
void ReferenceForward(const Context& ctx, const Tensor& qkv, const AttentionShape& shape,
                      const Documents& documents, const Tensor& y, const Tensor& lse) {
  const FusedHeads at(shape);
  const int64_t T = shape.seq_len, D = shape.head_dim, H = shape.num_heads;
  ctx.team().ParallelFor(shape.batch * H, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t b = unit / H, h = unit % H, kv = h / (H / shape.num_kv_heads);
      const Scalar* row = qkv.data<Scalar>() + b * T * at.stride;
      reference::CausalAttentionForward<Scalar>({.q = row + h * D,
                                                 .k = row + at.k + kv * D,
                                                 .v = row + at.v + kv * D,
                                                 .stride = at.stride,
                                                 .shape = shape,
                                                 .y = y.data<Scalar>() + (b * T * H + h) * D,
                                                 .y_stride = H * D,
                                                 .lse = lse.data<Scalar>() + unit * T,
                                                 .positions = Positions(documents, shape, b)});
    }
  });
}

template <typename Scalar>
void ReferenceBackward(const Context& ctx, const Tensor& dy, const Tensor& qkv, const Tensor& y,
                       const Tensor& lse, const AttentionShape& shape, const Documents& documents,
                       const Tensor& dqkv) {
  const FusedHeads at(shape);
  const int64_t T = shape.seq_len, D = shape.head_dim, H = shape.num_heads;
  const int64_t KV = shape.num_kv_heads;
  std::fill_n(dqkv.data<Scalar>(), dqkv.num_elements(), Scalar(0));
  ctx.team().ParallelFor(shape.batch * KV, 1, [&](int64_t begin, int64_t end) {
    // Processes the heads of a group one after the other, because they add to the same dk and dv.
    for (int64_t unit = begin * (H / KV); unit < end * (H / KV); ++unit) {
      const int64_t b = unit / H, h = unit % H, kv = h / (H / KV);
      const int64_t row = b * T * at.stride, out = (b * T * H + h) * D;
      const int64_t q = row + h * D, k = row + at.k + kv * D, v = row + at.v + kv * D;
      const Scalar* x = qkv.data<Scalar>();
      Scalar* dx = dqkv.data<Scalar>();
      reference::CausalAttentionBackward<Scalar>({.dy = dy.data<Scalar>() + out,
                                                  .q = x + q,
                                                  .k = x + k,
                                                  .v = x + v,
                                                  .stride = at.stride,
                                                  .y = y.data<Scalar>() + out,
                                                  .y_stride = H * D,
                                                  .lse = lse.data<Scalar>() + unit * T,
                                                  .shape = shape,
                                                  .dq = dx + q,
                                                  .dk = dx + k,
                                                  .dv = dx + v,
                                                  .positions = Positions(documents, shape, b)});
    }
  });
}

CudnnAttentionShape ForCudnn(const Context& ctx, const AttentionShape& s) {
  return {.batch = s.batch,
          .seq_len = s.seq_len,
          .num_heads = s.num_heads,
          .num_kv_heads = s.num_kv_heads,
          .head_dim = s.head_dim,
          .deterministic = ctx.deterministic(),
          .window = s.window,
          .score_scale = s.score_scale,
          .score_softcap = s.score_softcap};
}

// The one place that chooses what runs on CUDA, for both passes: returns cuDNN's kernels if it
// supports the shape, else null for our own.
CudnnAttention* Cudnn(const Context& ctx, DType dtype, const AttentionShape& shape,
                      const Documents& documents) {
  const bool taken =
      dtype == DType::kBf16 && CausalAttentionHasCudnn(ctx, shape, documents.defined()).ok();
  return taken ? &ctx.cuda().cudnn_attention() : nullptr;
}

// Allocates for either choice, because a dry run does not know which one it will be.
Tensor CudaScratch(const Context& ctx, int64_t own_elements, size_t cudnn_bytes) {
  const int64_t cudnn_elements = (cudnn_bytes + sizeof(float) - 1) / sizeof(float);
  return ctx.arena().Allocate(DType::kF32, {std::max(own_elements, cudnn_elements)});
}

absl::Status ForwardOnCuda(const Context& ctx, const Tensor& qkv, const AttentionShape& shape,
                           const Documents& documents, const Tensor& y, const Tensor& lse,
                           const Tensor& scratch) {
  if (CudnnAttention* const cudnn = Cudnn(ctx, qkv.dtype(), shape, documents)) {
    return cudnn->Forward(ctx.cuda_stream(), ForCudnn(ctx, shape), qkv.raw(), y.raw(),
                          lse.data<float>(), scratch.raw());
  }
  return DispatchCuda("causal_attention", qkv.dtype(), [&]<typename T>() {
    return cuda::CausalAttentionForward<T>(ctx.cuda_stream(),
                                           {.qkv = qkv.data<T>(),
                                            .shape = shape,
                                            .y = y.data<T>(),
                                            .lse = lse.data<float>(),
                                            .positions = Positions(documents, shape, 0)});
  });
}

absl::Status BackwardOnCuda(const Context& ctx, const Tensor& dy, const Tensor& qkv,
                            const Tensor& y, const Tensor& lse, const AttentionShape& shape,
                            const Documents& documents, const Tensor& dqkv, const Tensor& scratch) {
  if (CudnnAttention* const cudnn = Cudnn(ctx, qkv.dtype(), shape, documents)) {
    return cudnn->Backward(ctx.cuda_stream(), ForCudnn(ctx, shape), dy.raw(), qkv.raw(), y.raw(),
                           lse.data<float>(), dqkv.raw(), scratch.raw());
  }
  return DispatchCuda("causal_attention", qkv.dtype(), [&]<typename T>() {
    return cuda::CausalAttentionBackward<T>(ctx.cuda_stream(),
                                            {.dy = dy.data<T>(),
                                             .qkv = qkv.data<T>(),
                                             .y = y.data<T>(),
                                             .lse = lse.data<float>(),
                                             .shape = shape,
                                             .dqkv = dqkv.data<T>(),
                                             .workspace = scratch.data<float>(),
                                             .positions = Positions(documents, shape, 0)});
  });
}

}  // namespace

absl::Status CausalAttentionForward(const Context& ctx, const Tensor& qkv,
                                    const AttentionShape& shape, Tensor y, Tensor lse,
                                    const Documents& documents) {
  CheckShapes("causal_attention", qkv, shape, y, lse);
  const bool on_cuda = OnCuda("causal_attention", ctx, qkv, y, lse, documents.positions);
  const absl::Status valid =
      CheckDocuments("causal_attention", documents, qkv.dim(0), shape.seq_len);
  if (!valid.ok()) return valid;
  const ActivationScope scope(ctx.arena());
  Tensor scratch;
  if (Tiled(ctx, qkv)) {
    scratch = ctx.arena().Allocate(
        DType::kF32, {ctx.team().num_threads(),
                      cpu::CausalAttentionForwardScratch(shape.seq_len, shape.head_dim)});
  } else if (on_cuda && qkv.dtype() == DType::kBf16) {
    scratch = CudaScratch(ctx, 0, CudnnAttention::ForwardWorkspaceBytes(ForCudnn(ctx, shape)));
  }
  const OpScope op(ctx, "causal_attention", [&](OpCall& call) {
    call.In("qkv", qkv).Out("y", y).Out("lse", lse).Flops(ForwardFlops(shape, documents));
    SetAttentionShape(shape, &call);
    SetDocuments(documents, &call);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) return ForwardOnCuda(ctx, qkv, shape, documents, y, lse, scratch);
  const bool done = RunCpuKernels("causal_attention", ctx, qkv.dtype(), [&]<typename T>() {
    cpu::CausalAttentionForward(ctx.team(), Inputs<T>(qkv, shape), shape, 0, scratch.data<float>(),
                                y.data<T>(), lse.data<float>(), documents.lengths);
  });
  if (done) return absl::OkStatus();
  DispatchReference("causal_attention", qkv.dtype(), [&]<typename Scalar>() {
    ReferenceForward<Scalar>(ctx, qkv, shape, documents, y, lse);
  });
  return absl::OkStatus();
}

absl::Status CausalAttentionBackward(const Context& ctx, const Tensor& dy, const Tensor& qkv,
                                     const Tensor& y, const Tensor& lse,
                                     const AttentionShape& shape, Tensor dqkv,
                                     const Documents& documents) {
  CheckShapes("causal_attention", qkv, shape, y, lse);
  CheckShapes("causal_attention", dqkv, shape, dy, lse);
  const bool on_cuda = OnCuda("causal_attention", ctx, dy, qkv, y, lse, dqkv, documents.positions);
  const absl::Status valid =
      CheckDocuments("causal_attention", documents, qkv.dim(0), shape.seq_len);
  if (!valid.ok()) return valid;
  const ActivationScope scope(ctx.arena());
  Tensor scratch;
  if (Tiled(ctx, qkv)) {
    scratch = ctx.arena().Allocate(
        DType::kF32, {ctx.team().num_threads(),
                      cpu::CausalAttentionBackwardScratch(shape.seq_len, shape.head_dim)});
  } else if (on_cuda) {
    const bool bf16 = qkv.dtype() == DType::kBf16;
    scratch = CudaScratch(ctx, cuda::CausalAttentionBackwardWorkspaceSize(shape),
                          bf16 ? CudnnAttention::BackwardWorkspaceBytes(ForCudnn(ctx, shape)) : 0);
  }
  const OpScope op(ctx, "causal_attention", [&](OpCall& call) {
    call.In("dy", dy)
        .In("qkv", qkv)
        .In("y", y)
        .In("lse", lse)
        .Out("dqkv", dqkv)
        .Flops(2.5 * ForwardFlops(shape, documents));
    SetAttentionShape(shape, &call);
    SetDocuments(documents, &call);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) return BackwardOnCuda(ctx, dy, qkv, y, lse, shape, documents, dqkv, scratch);
  const bool done = RunCpuKernels("causal_attention", ctx, qkv.dtype(), [&]<typename T>() {
    const FusedHeads heads(shape);
    T* dx = dqkv.data<T>();
    const cpu::AttentionGradients<T> gradients = {.shape = shape,
                                                  .inputs = Inputs<T>(qkv, shape),
                                                  .dy = dy.data<T>(),
                                                  .y = y.data<T>(),
                                                  .lse = lse.data<float>(),
                                                  .lse_stride = shape.seq_len,
                                                  .dq = dx,
                                                  .dk = dx + heads.k,
                                                  .dv = dx + heads.v};
    cpu::CausalAttentionBackward(ctx.team(), gradients, scratch.data<float>(), documents.lengths);
  });
  if (done) return absl::OkStatus();
  DispatchReference("causal_attention", qkv.dtype(), [&]<typename Scalar>() {
    ReferenceBackward<Scalar>(ctx, dy, qkv, y, lse, shape, documents, dqkv);
  });
  return absl::OkStatus();
}

absl::Status CausalAttentionHasCudnn(const Context& ctx, const AttentionShape& shape,
                                     bool with_documents) {
  if (with_documents) {
    return absl::UnimplementedError("cuDNN's kernels are used for sequences of one document");
  }
  return ctx.cuda().cudnn_attention().Prepare(ForCudnn(ctx, shape));
}

}  // namespace strake
