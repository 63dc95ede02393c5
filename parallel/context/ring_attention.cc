#include "parallel/context/ring_attention.h"

#include <array>
#include <utility>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/op_profile.h"
#include "core/base/pending.h"
#include "core/base/status_macros.h"
#include "core/ops/attention/partial_attention.h"
#include "core/ops/copy/copy.h"
#include "core/ops/residual_add/residual_add.h"
#include "parallel/comm/call_site.h"
#include "parallel/comm/communicator.h"
#include "parallel/context/context_steps.h"

namespace strake {
namespace {

// What a rank sends and receives in one step, started together.
class Messages {
 public:
  // Tensors without elements do not move.
  void Start(const ContextOperands& operands, const Tensor& sent, int to, const Tensor& received,
             int from, CallSite site = CallSite::Here()) {
    if (!operands.Communicates()) return;
    Communicator& group = operands.cp.communicator();
    if (sent.num_elements() > 0) pending_.push_back(group.Send(sent, to, site));
    if (received.num_elements() > 0) pending_.push_back(group.Recv(received, from, site));
    group.StartMessages();
  }

  absl::Status Wait(const Context& ctx) {
    if (pending_.empty()) return absl::OkStatus();
    const OpTimer timer(ctx.profile(), "receive", ctx.pass());
    for (Pending<Tensor>& pending : pending_) STRAKE_RETURN_IF_ERROR(pending.Wait().status());
    pending_.clear();
    return absl::OkStatus();
  }

 private:
  std::vector<Pending<Tensor>> pending_;
};

class Ring {
 public:
  explicit Ring(const ContextOperands& operands)
      : a_(operands), steps_(ContextSteps(a_.cp.chunks(), a_.shape)) {
    own_ = Allocate(a_.qkv.dtype());
    AllocateTwo(a_.qkv.dtype(), &others_);
  }

  absl::Status Forward(const Tensor& y, const Tensor& lse);
  absl::Status Backward(const Tensor& dy, const Tensor& y, const Tensor& lse, const Tensor& dq,
                        const Tensor& dkv);

 private:
  // Those of steps s and s + 1 are in use at a time.
  using Buffers = std::array<Tensor, 2>;

  int num_steps() const { return static_cast<int>(steps_.size()); }
  Tensor Allocate(DType dtype) const { return a_.AllocateKv(dtype, a_.shape.seq_len); }
  void AllocateTwo(DType dtype, Buffers* buffers) const {
    for (int s = 1; s < num_steps() && s <= 2; ++s) (*buffers)[s % 2] = Allocate(dtype);
  }

  // A step's tile: its keys and values, and how it attends to them.
  Tensor KvOf(int s, const ContextTile& tile) const {
    return ChunkOf(s == 0 ? own_ : others_[s % 2], tile);
  }
  static Tensor ChunkOf(const Tensor& packed, const ContextTile& tile) {
    return ChunkRows(packed, {tile.keys, tile.keys + 1});
  }
  PartialAttention PartOf(int s, const ContextTile& tile) const {
    return a_.Part(
        tile.queries, a_.chunk_size(),
        {.position = a_.PositionOf(steps_[s].from, tile.keys), .count = a_.chunk_size()});
  }

  // Waits for the keys and values of step `s`, and starts the messages of the next one.
  absl::Status Begin(int s);
  // Sends the gradients of step `s`, in grads_, to where their keys are.
  void StartHome(int s);
  // Waits for what came home in step `s`, and adds it to dkv.
  absl::Status FinishHome(int s, const Tensor& dkv);

  const ContextOperands& a_;
  const std::vector<ContextStep> steps_;
  Tensor own_;      // packed keys and values of the rank
  Buffers others_;  // of other ranks
  Buffers grads_;   // their gradients
  Tensor home_;     // gradients of the rank's keys and values by another rank's queries
  Messages kv_messages_, home_messages_;
};

absl::Status Ring::Begin(int s) {
  if (s == 0) STRAKE_RETURN_IF_ERROR(a_.PackKv(own_));
  STRAKE_RETURN_IF_ERROR(kv_messages_.Wait(a_.ctx));
  if (s + 1 == num_steps()) return absl::OkStatus();
  const ContextStep& next = steps_[s + 1];
  kv_messages_.Start(a_, ChunkRows(own_, next.sent), next.to,
                     ChunkRows(others_[(s + 1) % 2], next.received), next.from);
  return absl::OkStatus();
}

absl::Status Ring::Forward(const Tensor& y, const Tensor& lse) {
  for (int s = 0; s < num_steps(); ++s) {
    STRAKE_RETURN_IF_ERROR(Begin(s));
    for (const ContextTile& tile : steps_[s].tiles) {
      const bool merge = s > 0 || tile.queries != tile.keys;
      STRAKE_RETURN_IF_ERROR(PartialAttentionForward(a_.ctx, a_.qkv, KvOf(s, tile), PartOf(s, tile),
                                                     merge, y, lse, a_.documents));
    }
  }
  return absl::OkStatus();
}

absl::Status Ring::Backward(const Tensor& dy, const Tensor& y, const Tensor& lse, const Tensor& dq,
                            const Tensor& dkv) {
  AllocateTwo(dkv.dtype(), &grads_);
  home_ = Allocate(dkv.dtype());
  STRAKE_RETURN_IF_ERROR(SetZero(a_.ctx, dkv));
  for (int s = 0; s < num_steps(); ++s) {
    STRAKE_RETURN_IF_ERROR(Begin(s));
    const Tensor& grads = s == 0 ? dkv : grads_[s % 2];
    STRAKE_RETURN_IF_ERROR(SetZero(a_.ctx, ChunkRows(grads, steps_[s].received)));
    for (const ContextTile& tile : steps_[s].tiles) {
      STRAKE_RETURN_IF_ERROR(PartialAttentionBackward(a_.ctx, dy, a_.qkv, KvOf(s, tile), y, lse,
                                                      PartOf(s, tile), dq, ChunkOf(grads, tile),
                                                      a_.documents));
    }
    if (s == 0) continue;
    STRAKE_RETURN_IF_ERROR(FinishHome(s - 1, dkv));
    StartHome(s);
  }
  return FinishHome(num_steps() - 1, dkv);
}

void Ring::StartHome(int s) {
  const ContextStep& step = steps_[s];
  home_messages_.Start(a_, ChunkRows(grads_[s % 2], step.received), step.from,
                       ChunkRows(home_, step.sent), step.to);
}

absl::Status Ring::FinishHome(int s, const Tensor& dkv) {
  STRAKE_RETURN_IF_ERROR(home_messages_.Wait(a_.ctx));
  const Tensor sum = ChunkRows(dkv, steps_[s].sent);
  if (sum.num_elements() == 0) return absl::OkStatus();
  return ResidualAddForward(a_.ctx, ChunkRows(home_, steps_[s].sent), sum, sum);
}

// Without the cause, other ranks would hear only that this one dropped its messages.
absl::Status AbortUnlessOk(const ContextOperands& operands, absl::Status status) {
  if (!status.ok()) operands.cp.communicator().Abort(status);
  return status;
}

}  // namespace

absl::Status RingAttentionForward(const ContextOperands& operands, const Tensor& y,
                                  const Tensor& lse) {
  Ring ring(operands);
  return AbortUnlessOk(operands, ring.Forward(y, lse));
}

absl::Status RingAttentionBackward(const ContextOperands& operands, const Tensor& dy,
                                   const Tensor& y, const Tensor& lse, const Tensor& dq,
                                   const Tensor& dkv) {
  Ring ring(operands);
  return AbortUnlessOk(operands, ring.Backward(dy, y, lse, dq, dkv));
}

}  // namespace strake
