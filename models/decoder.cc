#include "models/decoder.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "glog/logging.h"
#include "parallel/comm/communicator.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {
namespace {

absl::StatusOr<Tensor> Decode(const Context& ctx, const Transformer& model, const Tensor& tokens,
                              KvCache* cache) {
  const Tensor input = ctx.arena().Allocate(DType::kI32, tokens.shape());
  if (!ctx.dry_run() && input.device() == Device::kCuda) {
    // Waits for the copy, and not for the device.
    STRAKE_RETURN_IF_ERROR(
        CopyToDevice(input.raw(), tokens.raw(), input.num_bytes(), ctx.cuda_stream()));
  } else if (!ctx.dry_run()) {
    STRAKE_RETURN_IF_ERROR(CopyBlocking(tokens, input));
  }
  return model.Decode(ctx, input, cache);
}

// f32 or bf16 in host memory.
std::vector<float> ToFloats(const void* values, DType dtype, int64_t count) {
  const auto convert = [count](const auto* from) {
    std::vector<float> to(count);
    std::transform(from, from + count, to.begin(),
                   [](auto value) { return static_cast<float>(value); });
    return to;
  };
  return dtype == DType::kBf16 ? convert(static_cast<const Bf16*>(values))
                               : convert(static_cast<const float*>(values));
}

absl::Status WaitForStream(const TensorParallel& tp, CudaStream stream) {
  if (tp.size() == 1) return SynchronizeCudaStream(stream);
  return tp.communicator().WaitForStream(stream);
}

}  // namespace

absl::StatusOr<Decoder> Decoder::Create(const Context& ctx, const Transformer& model,
                                        int64_t max_tokens) {
  STRAKE_ASSIGN_OR_RETURN(KvCache cache, KvCache::Create(model, max_tokens));
  Decoder decoder(ctx, model, std::move(cache));
  if (!decoder.OnCuda()) return decoder;
  STRAKE_ASSIGN_OR_RETURN(decoder.logits_, PinnedMemory::Allocate(model.config().vocab_size *
                                                                  DTypeSize(model.dtype())));
  STRAKE_ASSIGN_OR_RETURN(decoder.inputs_, PinnedMemory::Allocate(2 * sizeof(int32_t)));
  STRAKE_ASSIGN_OR_RETURN(decoder.place_, model.CreateDecodePlace());
  return decoder;
}

absl::StatusOr<std::vector<float>> Decoder::Append(absl::Span<const int32_t> tokens) {
  CHECK(!tokens.empty() && length() + static_cast<int64_t>(tokens.size()) <= max_tokens())
      << "[decoder] " << tokens.size() << " tokens after " << length() << " of " << max_tokens();
  const ActivationScope scope(ctx_->arena());
  const int64_t vocab = model_->config().vocab_size;
  if (OnCuda()) {
    STRAKE_RETURN_IF_ERROR(AppendOnCuda(tokens));
    STRAKE_RETURN_IF_ERROR(WaitForStream(model_->tensor_parallel(), ctx_->cuda_stream()));
    return ToFloats(logits_.data(), model_->dtype(), vocab);
  }
  const Tensor input(const_cast<int32_t*>(tokens.data()), DType::kI32,
                     {static_cast<int64_t>(tokens.size())});
  STRAKE_ASSIGN_OR_RETURN(const Tensor logits, Decode(*ctx_, *model_, input, &cache_));
  return ToFloats(logits.raw(), logits.dtype(), vocab);
}

bool Decoder::CanRecord(int64_t num_tokens) const {
  const TensorParallel& tp = model_->tensor_parallel();
  return num_tokens == 1 && ctx_->profile() == nullptr && ctx_->recorder() == nullptr &&
         (tp.size() == 1 || tp.communicator().CanBeCaptured());
}

absl::Status Decoder::AppendOnCuda(absl::Span<const int32_t> tokens) {
  const int64_t count = tokens.size();
  if (CanRecord(count)) return RunToken(tokens[0]);
  const Tensor input(const_cast<int32_t*>(tokens.data()), DType::kI32, {count});
  STRAKE_ASSIGN_OR_RETURN(const Tensor logits, Decode(*ctx_, *model_, input, &cache_));
  return CopyToHost(logits_.data(), logits.raw(), logits.num_bytes(), ctx_->cuda_stream());
}

absl::Status Decoder::RunToken(int32_t token) {
  const int64_t past = length();
  const CudaStream stream = ctx_->cuda_stream();
  int32_t* const inputs = static_cast<int32_t*>(inputs_.data());
  inputs[0] = token;
  inputs[1] = static_cast<int32_t>(past);
  STRAKE_RETURN_IF_ERROR(model_->CopyTableRows(*ctx_, past, place_));
  const size_t used_bytes = ctx_->arena().used_bytes();
  if (!std::exchange(has_run_token_, true)) {
    arena_used_bytes_ = used_bytes;
    return EnqueueToken();
  }
  CHECK_EQ(used_bytes, arena_used_bytes_) << "[decoder] the arena's use has changed";
  if (!graph_.has_value()) {
    STRAKE_ASSIGN_OR_RETURN(graph_, CudaGraph::Capture(stream, [&] { return EnqueueToken(); }));
  }
  cache_.set_length(past + 1);
  return graph_->Launch(stream);
}

absl::Status Decoder::EnqueueToken() {
  const CudaStream stream = ctx_->cuda_stream();
  const int32_t* const inputs = static_cast<const int32_t*>(inputs_.data());
  const Tensor token = ctx_->arena().Allocate(DType::kI32, {1});
  STRAKE_RETURN_IF_ERROR(CopyToDevice(token.raw(), inputs, token.num_bytes(), stream));
  const Tensor& past = place_.past.tensor();
  STRAKE_RETURN_IF_ERROR(CopyToDevice(past.raw(), inputs + 1, past.num_bytes(), stream));
  STRAKE_ASSIGN_OR_RETURN(const Tensor logits, model_->Decode(*ctx_, token, &cache_, &place_));
  return CopyToHost(logits_.data(), logits.raw(), logits.num_bytes(), stream);
}

size_t Decoder::ArenaBytes(const Context& ctx, const Transformer& model, int64_t max_tokens,
                           int64_t past, int64_t num_tokens) {
  ActivationArena plan = ActivationArena::DryRun(model.device());
  const Context dry(&ctx.team(), &plan, ctx.op_set());
  KvCache cache = KvCache::DryRun(model, max_tokens);
  cache.set_length(past);
  CHECK(Decode(dry, model, Tensor(nullptr, DType::kI32, {num_tokens}), &cache).ok());
  return plan.peak_bytes();
}

}  // namespace strake
