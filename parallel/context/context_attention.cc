#include "parallel/context/context_attention.h"

#include <cstdint>

#include "absl/status/statusor.h"
#include "core/base/dtype.h"
#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/cast/cast.h"
#include "core/ops/copy/copy.h"
#include "glog/logging.h"
#include "parallel/context/context_operands.h"
#include "parallel/context/gathered_attention.h"
#include "parallel/context/ring_attention.h"

namespace strake {
namespace {

// The ops check the rest.
void CheckShapes(const ContextOperands& a, const Tensor& y) {
  const int64_t tokens = a.shape.batch * a.shape.seq_len;
  CHECK(a.shape.seq_len % 2 == 0 &&
        a.qkv.shape() == Shape({tokens, a.q_columns() + a.kv_columns()}) &&
        y.shape() == Shape({tokens, a.q_columns()}))
      << "[context_attention] qkv " << a.qkv.ToString() << ", y or gradient " << y.ToString()
      << ", batch " << a.shape.batch << ", seq_len " << a.shape.seq_len
      << " in two chunks on each of " << a.cp.size() << " ranks, num_heads " << a.shape.num_heads
      << ", num_kv_heads " << a.shape.num_kv_heads << ", head_dim " << a.shape.head_dim;
}

// x itself in the dtype, else a copy from the arena.
absl::StatusOr<Tensor> Rounded(const Context& ctx, const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  const Tensor rounded = ctx.arena().Allocate(dtype, x.shape());
  STRAKE_RETURN_IF_ERROR(Cast(ctx, x, rounded));
  return rounded;
}

}  // namespace

absl::Status ContextAttentionForward(const Context& ctx, const ContextParallel& cp,
                                     const Tensor& qkv, const AttentionShape& shape, Tensor y,
                                     Tensor lse, const Documents& documents) {
  if (cp.size() == 1) return CausalAttentionForward(ctx, qkv, shape, y, lse, documents);
  const ContextOperands operands = {ctx, cp, qkv, shape, documents};
  CheckShapes(operands, y);
  const ActivationScope scope(ctx.arena());
  const bool rounds = y.dtype() != lse.dtype();
  const Tensor sums = rounds ? ctx.arena().Allocate(lse.dtype(), y.shape()) : y;
  STRAKE_RETURN_IF_ERROR(cp.comm() == ContextComm::kRing
                             ? RingAttentionForward(operands, sums, lse)
                             : GatheredAttentionForward(operands, sums, lse));
  return rounds ? Cast(ctx, sums, y) : absl::OkStatus();
}

absl::Status ContextAttentionBackward(const Context& ctx, const ContextParallel& cp,
                                      const Tensor& dy, const Tensor& qkv, const Tensor& y,
                                      const Tensor& lse, const AttentionShape& shape, Tensor dqkv,
                                      const Documents& documents) {
  if (cp.size() == 1) {
    return CausalAttentionBackward(ctx, dy, qkv, y, lse, shape, dqkv, documents);
  }
  const ContextOperands operands = {ctx, cp, qkv, shape, documents};
  CheckShapes(operands, dy);
  CHECK(dqkv.shape() == qkv.shape() && dqkv.dtype() == qkv.dtype())
      << "[context_attention] dqkv " << dqkv.ToString() << ", qkv " << qkv.ToString();
  const ActivationScope scope(ctx.arena());
  const Tensor dq = ctx.arena().Allocate(lse.dtype(), dy.shape());
  const Tensor dkv = operands.AllocateKv(lse.dtype(), shape.seq_len);
  STRAKE_RETURN_IF_ERROR(SetZero(ctx, dq));
  {
    const ActivationScope pass(ctx.arena());
    STRAKE_RETURN_IF_ERROR(cp.comm() == ContextComm::kRing
                               ? RingAttentionBackward(operands, dy, y, lse, dq, dkv)
                               : GatheredAttentionBackward(operands, dy, y, lse, dq, dkv));
  }
  STRAKE_ASSIGN_OR_RETURN(const Tensor rounded_dq, Rounded(ctx, dq, dqkv.dtype()));
  STRAKE_RETURN_IF_ERROR(CopyColumns(ctx, rounded_dq, 0, dq.dim(1), dqkv, 0));
  STRAKE_ASSIGN_OR_RETURN(const Tensor rounded_dkv, Rounded(ctx, dkv, dqkv.dtype()));
  return operands.UnpackKv(rounded_dkv, dqkv);
}

}  // namespace strake
