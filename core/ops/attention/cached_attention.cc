#include "core/ops/attention/cached_attention.h"

#include <algorithm>

#include "core/memory/activation_arena.h"
#include "core/ops/attention/attention_call.h"
#include "core/ops/attention/cached_attention_cpu.h"
#include "core/ops/attention/cached_attention_cuda.h"
#include "core/ops/attention/cached_attention_reference.h"
#include "core/ops/attention/causal_attention_cpu.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/dispatch.h"
#include "glog/logging.h"

namespace strake {
namespace {

void CheckShapes(const Tensor& qkv, const AttentionShape& shape, int64_t past,
                 const Tensor& k_cache, const Tensor& v_cache, const Tensor& y) {
  const int64_t batch = shape.batch, seq_len = shape.seq_len, num_heads = shape.num_heads;
  const int64_t num_kv_heads = shape.num_kv_heads, head_dim = shape.head_dim;
  CHECK(batch == 1 && seq_len >= 0 && num_heads > 0 && num_kv_heads > 0 && head_dim > 0 &&
        num_heads % num_kv_heads == 0 && shape.HasValidScores() &&
        qkv.shape() == Shape({seq_len, (num_heads + 2 * num_kv_heads) * head_dim}) &&
        y.shape() == Shape({seq_len, num_heads * head_dim}) && k_cache.rank() == 2 &&
        k_cache.dim(1) == num_kv_heads * head_dim && v_cache.shape() == k_cache.shape() &&
        past >= 0 && past + seq_len <= k_cache.dim(0) && y.dtype() == qkv.dtype() &&
        k_cache.dtype() == qkv.dtype() && v_cache.dtype() == qkv.dtype())
      << "[cached_attention] qkv " << qkv.ToString() << ", k_cache " << k_cache.ToString()
      << ", v_cache " << v_cache.ToString() << ", y " << y.ToString() << ", past " << past
      << ", batch " << batch << ", seq_len " << seq_len << ", num_heads " << num_heads
      << ", num_kv_heads " << num_kv_heads << ", head_dim " << head_dim << ", window "
      << shape.window << ", score_scale " << shape.score_scale << ", score_softcap "
      << shape.score_softcap;
}

// Packing a head's cache into tiles pays off from a panel of tokens on; fewer tokens read it in
// place.
bool Tiled(const AttentionShape& shape) {
  constexpr int64_t kMinTokens = 8;
  return shape.seq_len >= kMinTokens;
}

// Returns a number of floats.
int64_t ScratchSize(const AttentionShape& shape, int64_t past, int num_threads) {
  if (!Tiled(shape)) return STRAKE_CPU_RUN(CachedAttentionScratch(shape, past));
  return num_threads * cpu::CausalAttentionForwardScratch(past + shape.seq_len, shape.head_dim);
}

template <typename T>
void CpuForward(const Context& ctx, const Tensor& qkv, const AttentionShape& shape, int64_t past,
                const Tensor& k_cache, const Tensor& v_cache, float* scratch, const Tensor& y) {
  const cpu::AttentionInputs<T> inputs{qkv.data<T>(), qkv.dim(1), k_cache.data<T>(),
                                       v_cache.data<T>(), k_cache.dim(1)};
  if (Tiled(shape)) {
    return cpu::CausalAttentionForward<T>(ctx.team(), inputs, shape, past, scratch, y.data<T>(),
                                          nullptr);
  }
  ctx.team().ParallelFor(shape.num_heads, 1, [&](int64_t begin, int64_t end) {
    STRAKE_CPU_RUN(CachedAttentionForward(inputs, shape, past, begin, end, scratch, y.data<T>()));
  });
}

template <typename Scalar>
void AppendToCache(const Tensor& qkv, const AttentionShape& shape, int64_t past,
                   const Tensor& k_cache, const Tensor& v_cache) {
  const int64_t columns = shape.num_kv_heads * shape.head_dim;
  for (int64_t n = 0; n < shape.seq_len; ++n) {
    const Scalar* k = qkv.data<Scalar>() + n * qkv.dim(1) + shape.num_heads * shape.head_dim;
    std::copy_n(k, columns, k_cache.data<Scalar>() + (past + n) * columns);
    std::copy_n(k + columns, columns, v_cache.data<Scalar>() + (past + n) * columns);
  }
}

template <typename Scalar>
void ReferenceForward(const Context& ctx, const Tensor& qkv, const AttentionShape& shape,
                      int64_t past, const Tensor& k_cache, const Tensor& v_cache, const Tensor& y) {
  const int64_t head_dim = shape.head_dim, group = shape.num_heads / shape.num_kv_heads;
  ctx.team().ParallelFor(shape.num_heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h) {
      const int64_t at = h / group * head_dim;
      reference::CachedAttentionForward<Scalar>({.q = qkv.data<Scalar>() + h * head_dim,
                                                 .q_stride = qkv.dim(1),
                                                 .k_cache = k_cache.data<Scalar>() + at,
                                                 .v_cache = v_cache.data<Scalar>() + at,
                                                 .cache_stride = k_cache.dim(1),
                                                 .past = past,
                                                 .shape = shape,
                                                 .y = y.data<Scalar>() + h * head_dim,
                                                 .y_stride = y.dim(1)});
    }
  });
}

absl::Status ForwardOnCuda(const Context& ctx, const Tensor& qkv, const AttentionShape& shape,
                           int64_t past, const Tensor& k_cache, const Tensor& v_cache,
                           const Tensor& y, const Tensor& past_on_gpu, const Tensor& scratch) {
  return DispatchCuda("cached_attention", qkv.dtype(), [&]<typename T>() {
    const int32_t* const place = past_on_gpu.defined() ? past_on_gpu.data<int32_t>() : nullptr;
    return cuda::CachedAttentionForward<T>(ctx.cuda_stream(), {.qkv = qkv.data<T>(),
                                                               .shape = shape,
                                                               .past = past,
                                                               .past_on_gpu = place,
                                                               .cache_rows = k_cache.dim(0),
                                                               .k_cache = k_cache.data<T>(),
                                                               .v_cache = v_cache.data<T>(),
                                                               .y = y.data<T>(),
                                                               .workspace = scratch.data<float>()});
  });
}

}  // namespace

absl::Status CachedAttentionForward(const Context& ctx, const Tensor& qkv,
                                    const AttentionShape& shape, int64_t past, Tensor k_cache,
                                    Tensor v_cache, Tensor y, const Tensor& past_on_gpu) {
  CheckShapes(qkv, shape, past, k_cache, v_cache, y);
  const bool on_cuda = OnCuda("cached_attention", ctx, qkv, k_cache, v_cache, y);
  CHECK(!past_on_gpu.defined() ||
        (on_cuda && shape.seq_len == 1 && past_on_gpu.num_elements() == 1 &&
         past_on_gpu.dtype() == DType::kI32))
      << "[cached_attention] past_on_gpu " << past_on_gpu.ToString() << ", seq_len "
      << shape.seq_len;
  const ActivationScope scope(ctx.arena());
  Tensor scratch;
  if (on_cuda) {
    scratch = ctx.arena().Allocate(
        DType::kF32, {cuda::CachedAttentionWorkspaceSize(shape, past, k_cache.dim(0))});
  } else if (HasCpuKernels("cached_attention", ctx, qkv.dtype())) {
    scratch =
        ctx.arena().Allocate(DType::kF32, {ScratchSize(shape, past, ctx.team().num_threads())});
  }
  const OpScope op(ctx, "cached_attention", [&](OpCall& call) {
    const int64_t keys = past + shape.seq_len - shape.FirstKey(past);
    const double cache_bytes = keys * k_cache.dim(1) * DTypeSize(k_cache.dtype());
    call.In("qkv", qkv)
        .InOut("k_cache", k_cache, cache_bytes / 2)
        .InOut("v_cache", v_cache, cache_bytes / 2)
        .Out("y", y);
    SetAttentionShape(shape, &call);
    call.Set("past", past);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda)
    return ForwardOnCuda(ctx, qkv, shape, past, k_cache, v_cache, y, past_on_gpu, scratch);
  const bool done = RunCpuKernels("cached_attention", ctx, qkv.dtype(), [&]<typename T>() {
    AppendToCache<T>(qkv, shape, past, k_cache, v_cache);
    CpuForward<T>(ctx, qkv, shape, past, k_cache, v_cache, scratch.data<float>(), y);
  });
  if (done) return absl::OkStatus();
  DispatchReference("cached_attention", qkv.dtype(), [&]<typename Scalar>() {
    AppendToCache<Scalar>(qkv, shape, past, k_cache, v_cache);
    ReferenceForward<Scalar>(ctx, qkv, shape, past, k_cache, v_cache, y);
  });
  return absl::OkStatus();
}

}  // namespace strake
