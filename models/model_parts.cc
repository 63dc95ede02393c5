#include "models/model_parts.h"

#include "core/base/op_profile.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

ModelParts::ModelParts(absl::Span<const std::unique_ptr<Transformer>> chunks, Communicator* pp,
                       StageLinks* links)
    : pp_(pp), links_(links) {
  CHECK(!chunks.empty()) << "[model_parts] no parts";
  for (const auto& chunk : chunks) parts_.push_back(chunk.get());
}

Communicator* ModelParts::AnyGroup() const {
  const TensorParallel& tp = front().tensor_parallel();
  return tp.size() > 1 ? &tp.communicator() : pp_;
}

absl::StatusOr<Tensor> ModelParts::ReceiveInput(const Context& ctx, int i, int64_t num_rows) const {
  if (part(i).is_first()) return Tensor();
  const Tensor x = ctx.arena().Allocate(part(i).dtype(), {num_rows, part(i).config().hidden_size});
  if (!Communicates(ctx)) return x;
  const OpTimer timer(ctx.profile(), "receive", ctx.pass());
  return links_->Receive(PipelinePass::kForward, x).Wait();
}

absl::StatusOr<Tensor> ModelParts::Forward(int64_t num_rows, ContextOf context_of,
                                           RunPart run) const {
  Tensor result;
  for (int i = 0; i < size(); ++i) {
    const Context ctx = context_of(i);
    STRAKE_ASSIGN_OR_RETURN(const Tensor x, ReceiveInput(ctx, i, num_rows));
    STRAKE_ASSIGN_OR_RETURN(const Tensor y, run(ctx, i, x));
    if (part(i).is_last()) {
      result = y;
    } else if (Communicates(ctx)) {
      const OpTimer timer(ctx.profile(), "send", ctx.pass());
      STRAKE_RETURN_IF_ERROR(links_->Send(PipelinePass::kForward, y).Wait().status());
    }
  }
  return result;
}

absl::StatusOr<Tensor> ModelParts::Share(const Context& ctx, const Tensor& result,
                                         const Shape& shape) const {
  if (is_whole()) return result;
  const Tensor y = result.defined() ? result : ctx.arena().Allocate(front().dtype(), shape);
  CHECK(y.shape() == shape) << "[model_parts] " << y.ToString() << " is not "
                            << Tensor(nullptr, y.dtype(), shape).ToString();
  if (!Communicates(ctx)) return y;
  const OpTimer timer(ctx.profile(), "broadcast", ctx.pass());
  return pp_->Broadcast(y, /*root=*/pp_->size() - 1).Wait();
}

}  // namespace strake
