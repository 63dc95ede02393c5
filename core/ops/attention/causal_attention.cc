#include "core/ops/attention/causal_attention.h"

#include <algorithm>

#include "core/base/status_macros.h"
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

CudnnAttentionShape ForCudnn(const Context& ctx, const AttentionShape& s, bool with_documents) {
  return {.batch = s.batch,
          .seq_len = s.seq_len,
          .num_heads = s.num_heads,
          .num_kv_heads = s.num_kv_heads,
          .head_dim = s.head_dim,
          .deterministic = ctx.deterministic(),
          .window = s.window,
          .score_scale = s.score_scale,
          .score_softcap = s.score_softcap,
          .num_documents = with_documents ? CudnnMaxDocuments(s.batch, s.seq_len) : 0};
}

// Device memory for where documents are: a number that says whether there are too many for cuDNN,
// then their lengths and offsets, in groups of `group_size`. Each group is aligned to 16 bytes.
class Ranges {
 public:
  Ranges(int64_t num_groups, int64_t group_size)
      : num_groups_(num_groups),
        group_size_(group_size),
        length_stride_(RoundUp(group_size, 4)),
        offset_stride_(RoundUp(group_size + 1, 2)) {}

  void Allocate(ActivationArena& arena) {
    // In f32, whose elements have the size of a length.
    memory_ = arena.Allocate(DType::kF32,
                             {kFirst + num_groups_ * (length_stride_ + 3 * 2 * offset_stride_)});
  }

  absl::Status Fill(const Context& ctx, const Documents& documents, const AttentionShape& shape) {
    return cuda::DocumentRanges(ctx.cuda_stream(),
                                {.positions = documents.positions.data<int32_t>(),
                                 .shape = shape,
                                 .num_groups = static_cast<int>(num_groups_),
                                 .group_size = static_cast<int>(group_size_),
                                 .length_stride = static_cast<int>(length_stride_),
                                 .offset_stride = static_cast<int>(offset_stride_),
                                 .lengths = lengths(),
                                 .fused = offsets(0),
                                 .output = offsets(1),
                                 .lse = offsets(2),
                                 .overflow = overflow()});
  }
  CudnnDocuments ForCudnn() const {
    return {lengths(),   offsets(0),     offsets(1),    offsets(2),
            num_groups_, length_stride_, offset_stride_};
  }
  int32_t* overflow() const { return reinterpret_cast<int32_t*>(memory_.data<float>()); }

 private:
  static constexpr int64_t kFirst = 4;  // the place of the lengths

  static int64_t RoundUp(int64_t n, int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
  }
  int32_t* lengths() const { return overflow() + kFirst; }
  int64_t* offsets(int i) const {
    return reinterpret_cast<int64_t*>(lengths() + num_groups_ * length_stride_) +
           i * num_groups_ * offset_stride_;
  }

  int64_t num_groups_, group_size_, length_stride_, offset_stride_;
  Tensor memory_;
};

// The forward pass takes all documents at once, the backward pass one for each sequence.
Ranges ForwardRanges(const AttentionShape& s) { return {1, CudnnMaxDocuments(s.batch, s.seq_len)}; }
Ranges BackwardRanges(const AttentionShape& s) {
  return {CudnnMaxDocuments(1, s.seq_len), s.batch};
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

// Enqueues cuDNN's pass by call(cudnn, shape, documents), and sets *only_if to what our own kernels
// then go by: they compute batches of more documents than cuDNN takes. Which of the two it is is
// decided when the work runs, so a captured graph serves every batch.
template <typename Call>
absl::Status RunCudnn(const Context& ctx, CudnnAttention& cudnn, const AttentionShape& shape,
                      const Documents& documents, Ranges* ranges, const int32_t** only_if,
                      Call call) {
  const CudnnAttentionShape planned = ForCudnn(ctx, shape, documents.defined());
  if (!documents.defined()) return call(cudnn, planned, CudnnDocuments());
  STRAKE_RETURN_IF_ERROR(ranges->Fill(ctx, documents, shape));
  *only_if = ranges->overflow();
  return call(cudnn, planned, ranges->ForCudnn());
}

absl::Status ForwardOnCuda(const Context& ctx, const Tensor& qkv, const AttentionShape& shape,
                           const Documents& documents, const Tensor& y, const Tensor& lse,
                           const Tensor& scratch, Ranges* ranges) {
  const int32_t* only_if = nullptr;
  if (CudnnAttention* const cudnn = Cudnn(ctx, qkv.dtype(), shape, documents)) {
    STRAKE_RETURN_IF_ERROR(RunCudnn(
        ctx, *cudnn, shape, documents, ranges, &only_if,
        [&](CudnnAttention& by, const CudnnAttentionShape& planned, const CudnnDocuments& packed) {
          return by.Forward(ctx.cuda_stream(), planned, qkv.raw(), y.raw(), lse.data<float>(),
                            scratch.raw(), packed);
        }));
    if (only_if == nullptr) return absl::OkStatus();
  }
  return DispatchCuda("causal_attention", qkv.dtype(), [&]<typename T>() {
    return cuda::CausalAttentionForward<T>(ctx.cuda_stream(),
                                           {.qkv = qkv.data<T>(),
                                            .shape = shape,
                                            .y = y.data<T>(),
                                            .lse = lse.data<float>(),
                                            .positions = Positions(documents, shape, 0),
                                            .only_if = only_if});
  });
}

absl::Status BackwardOnCuda(const Context& ctx, const Tensor& dy, const Tensor& qkv,
                            const Tensor& y, const Tensor& lse, const AttentionShape& shape,
                            const Documents& documents, const Tensor& dqkv, const Tensor& scratch,
                            Ranges* ranges) {
  const int32_t* only_if = nullptr;
  if (CudnnAttention* const cudnn = Cudnn(ctx, qkv.dtype(), shape, documents)) {
    STRAKE_RETURN_IF_ERROR(RunCudnn(
        ctx, *cudnn, shape, documents, ranges, &only_if,
        [&](CudnnAttention& by, const CudnnAttentionShape& planned, const CudnnDocuments& packed) {
          return by.Backward(ctx.cuda_stream(), planned, dy.raw(), qkv.raw(), y.raw(),
                             lse.data<float>(), dqkv.raw(), scratch.raw(), packed);
        }));
    if (only_if == nullptr) return absl::OkStatus();
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
                                             .positions = Positions(documents, shape, 0),
                                             .only_if = only_if});
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
  Ranges ranges = ForwardRanges(shape);
  if (Tiled(ctx, qkv)) {
    scratch = ctx.arena().Allocate(
        DType::kF32, {ctx.team().num_threads(),
                      cpu::CausalAttentionForwardScratch(shape.seq_len, shape.head_dim)});
  } else if (on_cuda && qkv.dtype() == DType::kBf16) {
    const size_t bytes =
        CudnnAttention::ForwardWorkspaceBytes(ForCudnn(ctx, shape, documents.defined()));
    scratch = CudaScratch(ctx, 0, bytes);
    if (bytes > 0 && documents.defined()) ranges.Allocate(ctx.arena());
  }
  const OpScope op(ctx, "causal_attention", [&](OpCall& call) {
    call.In("qkv", qkv).Out("y", y).Out("lse", lse).Flops(ForwardFlops(shape, documents));
    SetAttentionShape(shape, &call);
    SetDocuments(documents, &call);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) return ForwardOnCuda(ctx, qkv, shape, documents, y, lse, scratch, &ranges);
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
  Ranges ranges = BackwardRanges(shape);
  if (Tiled(ctx, qkv)) {
    scratch = ctx.arena().Allocate(
        DType::kF32, {ctx.team().num_threads(),
                      cpu::CausalAttentionBackwardScratch(shape.seq_len, shape.head_dim)});
  } else if (on_cuda) {
    const bool bf16 = qkv.dtype() == DType::kBf16;
    const CudnnAttentionShape planned = ForCudnn(ctx, shape, documents.defined());
    const size_t bytes = bf16 ? CudnnAttention::BackwardWorkspaceBytes(planned) : 0;
    scratch = CudaScratch(ctx, cuda::CausalAttentionBackwardWorkspaceSize(shape), bytes);
    if (bytes > 0 && documents.defined()) ranges.Allocate(ctx.arena());
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
  if (on_cuda)
    return BackwardOnCuda(ctx, dy, qkv, y, lse, shape, documents, dqkv, scratch, &ranges);
  const bool done = RunCpuKernels("causal_attention", ctx, qkv.dtype(), [&]<typename T>() {
    const FusedHeads heads(shape);
    T* dx = dqkv.data<T>();
    const cpu::AttentionGradients<T, T> gradients = {.shape = shape,
                                                     .keys = {0, shape.seq_len},
                                                     .inputs = Inputs<T>(qkv, shape),
                                                     .dy = dy.data<T>(),
                                                     .y = y.data<T>(),
                                                     .lse = lse.data<float>(),
                                                     .lse_stride = shape.seq_len,
                                                     .dq = dx,
                                                     .dq_stride = heads.stride,
                                                     .dk = dx + heads.k,
                                                     .dv = dx + heads.v,
                                                     .dkv_stride = heads.stride,
                                                     .accumulate = false};
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
  return ctx.cuda().cudnn_attention().Prepare(ForCudnn(ctx, shape, with_documents));
}

}  // namespace strake
