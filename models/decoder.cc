#include "models/decoder.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/functional/function_ref.h"
#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "core/tensor/sequence_chunks.h"
#include "glog/logging.h"
#include "parallel/comm/communicator.h"

namespace strake {
namespace {

// Copies tokens to where the model is.
absl::StatusOr<Tensor> Input(const Context& ctx, absl::Span<const int32_t> values) {
  const Tensor tokens(const_cast<int32_t*>(values.data()), DType::kI32,
                      {static_cast<int64_t>(values.size())});
  const Tensor input = ctx.arena().Allocate(DType::kI32, tokens.shape());
  if (!ctx.dry_run() && input.device() == Device::kCuda) {
    // Waits for the copy, and not for the device.
    STRAKE_RETURN_IF_ERROR(
        CopyToDevice(input.raw(), tokens.raw(), input.num_bytes(), ctx.cuda_stream()));
  } else if (!ctx.dry_run()) {
    STRAKE_RETURN_IF_ERROR(CopyBlocking(tokens, input));
  }
  return input;
}

// The caches of a sequence, by part.
using Caches = std::vector<KvCache>;

absl::StatusOr<Caches> MakeCaches(
    const ModelParts& model, absl::FunctionRef<absl::StatusOr<KvCache>(const Transformer&)> make) {
  Caches caches;
  for (int i = 0; i < model.size(); ++i) {
    STRAKE_ASSIGN_OR_RETURN(KvCache cache, make(model.part(i)));
    caches.push_back(std::move(cache));
  }
  return caches;
}

Caches DryRunCaches(const ModelParts& model, int64_t max_tokens, int64_t past) {
  return *MakeCaches(model, [&](const Transformer& part) {
    KvCache cache = KvCache::DryRun(part, max_tokens);
    cache.set_length(past);
    return cache;
  });
}

// Computes tokens in chunks on each context-parallel rank. Their caches are whole on all.
absl::Status DecodeChunks(const Context& ctx, const ModelParts& model,
                          absl::Span<const int32_t> tokens, Caches& caches) {
  const ActivationScope scope(ctx.arena());
  const SequenceChunks& chunks = model.front().context_parallel().chunks();
  const std::vector<int32_t> own = chunks.Take(tokens.data(), /*num_sequences=*/1, tokens.size());
  STRAKE_ASSIGN_OR_RETURN(const Tensor input, Input(ctx, own));
  const auto run = [&](const Context& /*ctx*/, int i, const Tensor& x) {
    return model.part(i).DecodeChunks(ctx, input, &caches[i], x);
  };
  return model.Forward(ctx, input.dim(0), run).status();
}

// The number of a sequence's new tokens that context-parallel ranks share. The kernels of attention
// cut keys into tiles of 64, which decides bits; and the last token is computed on every rank.
int64_t NumShared(const ModelParts& model, int64_t num_tokens) {
  const int num_ranks = model.front().context_parallel().size();
  const int64_t multiple = 2 * num_ranks * int64_t{64};
  return num_ranks == 1 ? 0 : (num_tokens - 1) / multiple * multiple;
}

absl::StatusOr<Tensor> Decode(const Context& ctx, const ModelParts& model,
                              absl::Span<const int32_t> tokens, Caches& caches) {
  if (const int64_t shared = NumShared(model, tokens.size()); shared > 0) {
    STRAKE_RETURN_IF_ERROR(DecodeChunks(ctx, model, tokens.first(shared), caches));
    tokens.remove_prefix(shared);
  }
  STRAKE_ASSIGN_OR_RETURN(const Tensor input, Input(ctx, tokens));
  STRAKE_ASSIGN_OR_RETURN(
      const Tensor logits,
      model.Forward(ctx, input.dim(0), [&](const Context& /*ctx*/, int i, const Tensor& x) {
        return model.part(i).Decode(ctx, input, &caches[i], /*place=*/nullptr, x);
      }));
  return model.Share(ctx, logits, {1, model.front().config().vocab_size});
}

// `caches` are those of the sequences that grow.
absl::StatusOr<Tensor> DecodeEach(const Context& ctx, const ModelParts& model,
                                  absl::Span<const int32_t> tokens,
                                  absl::Span<Caches* const> caches) {
  STRAKE_ASSIGN_OR_RETURN(const Tensor input, Input(ctx, tokens));
  std::vector<KvCache*> of_part(caches.size());
  STRAKE_ASSIGN_OR_RETURN(
      const Tensor logits,
      model.Forward(ctx, input.dim(0), [&](const Context& /*ctx*/, int i, const Tensor& x) {
        for (size_t s = 0; s < caches.size(); ++s) of_part[s] = &(*caches[s])[i];
        return model.part(i).DecodeEach(ctx, input, of_part, x);
      }));
  return model.Share(ctx, logits, {input.dim(0), model.front().padded_vocab_size()});
}

// Appends `count` values, f32 or bf16 in host memory, from index `begin` on.
void AppendFloats(const void* values, DType dtype, int64_t begin, int64_t count,
                  std::vector<float>* to) {
  const auto append = [&](const auto* from) {
    std::transform(from + begin, from + begin + count, std::back_inserter(*to),
                   [](auto value) { return static_cast<float>(value); });
  };
  if (dtype == DType::kBf16) return append(static_cast<const Bf16*>(values));
  append(static_cast<const float*>(values));
}

absl::Status WaitForStream(const ModelParts& model, CudaStream stream) {
  Communicator* const group = model.AnyGroup();
  return group == nullptr ? SynchronizeCudaStream(stream) : group->WaitForStream(stream);
}

}  // namespace

absl::StatusOr<Decoder> Decoder::Create(const Context& ctx, const ModelParts& model,
                                        int64_t max_tokens, int num_sequences) {
  CHECK_GE(num_sequences, 1) << "[decoder] sequences";
  Decoder decoder(ctx, model);
  for (int i = 0; i < num_sequences; ++i) {
    STRAKE_ASSIGN_OR_RETURN(Caches caches, MakeCaches(model, [&](const Transformer& part) {
                              return KvCache::Create(part, max_tokens);
                            }));
    decoder.caches_.push_back(std::move(caches));
  }
  if (!decoder.OnCuda()) return decoder;
  const Transformer& front = model.front();
  STRAKE_ASSIGN_OR_RETURN(
      decoder.logits_,
      PinnedMemory::Allocate(num_sequences * front.padded_vocab_size() * DTypeSize(front.dtype())));
  STRAKE_ASSIGN_OR_RETURN(decoder.inputs_, PinnedMemory::Allocate(2 * sizeof(int32_t)));
  STRAKE_ASSIGN_OR_RETURN(decoder.place_, front.CreateDecodePlace());
  return decoder;
}

absl::StatusOr<std::vector<float>> Decoder::Append(absl::Span<const int32_t> tokens, int sequence) {
  CHECK(!tokens.empty() && length(sequence) + static_cast<int64_t>(tokens.size()) <= max_tokens())
      << "[decoder] " << tokens.size() << " tokens after " << length(sequence) << " of "
      << max_tokens();
  const ActivationScope scope(ctx_->arena());
  const int64_t vocab = model_.front().config().vocab_size;
  std::vector<float> logits;
  if (OnCuda()) {
    STRAKE_RETURN_IF_ERROR(AppendOnCuda(tokens, sequence));
    STRAKE_RETURN_IF_ERROR(WaitForStream(model_, ctx_->cuda_stream()));
    AppendFloats(logits_.data(), model_.front().dtype(), 0, vocab, &logits);
    return logits;
  }
  STRAKE_ASSIGN_OR_RETURN(const Tensor result, Decode(*ctx_, model_, tokens, caches_[sequence]));
  AppendFloats(result.raw(), result.dtype(), 0, vocab, &logits);
  return logits;
}

absl::StatusOr<std::vector<float>> Decoder::AppendToEach(absl::Span<const int> sequences,
                                                         absl::Span<const int32_t> tokens) {
  CHECK(!sequences.empty() && sequences.size() == tokens.size())
      << "[decoder] " << tokens.size() << " tokens for " << sequences.size() << " sequences";
  const ActivationScope scope(ctx_->arena());
  std::vector<Caches*> caches;
  for (const int sequence : sequences) caches.push_back(&caches_[sequence]);
  STRAKE_ASSIGN_OR_RETURN(const Tensor result, DecodeEach(*ctx_, model_, tokens, caches));
  const void* values = result.raw();
  if (OnCuda()) {
    STRAKE_RETURN_IF_ERROR(
        CopyToHost(logits_.data(), result.raw(), result.num_bytes(), ctx_->cuda_stream()));
    STRAKE_RETURN_IF_ERROR(WaitForStream(model_, ctx_->cuda_stream()));
    values = logits_.data();
  }
  const int64_t vocab = model_.front().config().vocab_size;
  std::vector<float> logits;
  for (size_t row = 0; row < sequences.size(); ++row) {
    AppendFloats(values, result.dtype(), row * result.dim(1), vocab, &logits);
  }
  return logits;
}

bool Decoder::CanRecord(int64_t num_tokens) const {
  Communicator* const group = model_.AnyGroup();
  return model_.is_whole() && caches_.size() == 1 && num_tokens == 1 &&
         ctx_->profile() == nullptr && ctx_->recorder() == nullptr &&
         (group == nullptr || group->CanBeCaptured());
}

absl::Status Decoder::AppendOnCuda(absl::Span<const int32_t> tokens, int sequence) {
  if (CanRecord(tokens.size())) return RunToken(tokens[0]);
  STRAKE_ASSIGN_OR_RETURN(const Tensor logits, Decode(*ctx_, model_, tokens, caches_[sequence]));
  return CopyToHost(logits_.data(), logits.raw(), logits.num_bytes(), ctx_->cuda_stream());
}

absl::Status Decoder::RunToken(int32_t token) {
  const int64_t past = length();
  const CudaStream stream = ctx_->cuda_stream();
  int32_t* const inputs = static_cast<int32_t*>(inputs_.data());
  inputs[0] = token;
  inputs[1] = static_cast<int32_t>(past);
  STRAKE_RETURN_IF_ERROR(model_.front().CopyTableRows(*ctx_, past, place_));
  const size_t used_bytes = ctx_->arena().used_bytes();
  if (!std::exchange(has_run_token_, true)) {
    arena_used_bytes_ = used_bytes;
    return EnqueueToken();
  }
  CHECK_EQ(used_bytes, arena_used_bytes_) << "[decoder] the arena's use has changed";
  if (!graph_.has_value()) {
    STRAKE_ASSIGN_OR_RETURN(graph_, CudaGraph::Capture(stream, [&] { return EnqueueToken(); }));
  }
  caches_[0][0].set_length(past + 1);
  return graph_->Launch(stream);
}

absl::Status Decoder::EnqueueToken() {
  const CudaStream stream = ctx_->cuda_stream();
  const int32_t* const inputs = static_cast<const int32_t*>(inputs_.data());
  const Tensor token = ctx_->arena().Allocate(DType::kI32, {1});
  STRAKE_RETURN_IF_ERROR(CopyToDevice(token.raw(), inputs, token.num_bytes(), stream));
  const Tensor& past = place_.past.tensor();
  STRAKE_RETURN_IF_ERROR(CopyToDevice(past.raw(), inputs + 1, past.num_bytes(), stream));
  STRAKE_ASSIGN_OR_RETURN(const Tensor logits,
                          model_.front().Decode(*ctx_, token, &caches_[0][0], &place_));
  return CopyToHost(logits_.data(), logits.raw(), logits.num_bytes(), stream);
}

size_t Decoder::ArenaBytes(const Context& ctx, const ModelParts& model, int64_t max_tokens,
                           int64_t past, int64_t num_tokens) {
  ActivationArena plan = ActivationArena::DryRun(model.front().device());
  const Context dry(&ctx.team(), &plan, ctx.op_set());
  Caches caches = DryRunCaches(model, max_tokens, past);
  const std::vector<int32_t> tokens(num_tokens);
  CHECK(Decode(dry, model, tokens, caches).ok());
  return plan.peak_bytes();
}

size_t Decoder::ArenaBytesOfEach(const Context& ctx, const ModelParts& model, int64_t max_tokens,
                                 int64_t past, int num_sequences) {
  ActivationArena plan = ActivationArena::DryRun(model.front().device());
  const Context dry(&ctx.team(), &plan, ctx.op_set());
  std::vector<Caches> caches;
  for (int i = 0; i < num_sequences; ++i) caches.push_back(DryRunCaches(model, max_tokens, past));
  std::vector<Caches*> pointers;
  for (Caches& of_sequence : caches) pointers.push_back(&of_sequence);
  const std::vector<int32_t> tokens(num_sequences);
  CHECK(DecodeEach(dry, model, tokens, pointers).ok());
  return plan.peak_bytes();
}

}  // namespace strake
