// Decoder: runs a model over growing sequences, and brings the logits after them to the host.
#ifndef STRAKE_MODELS_DECODER_H_
#define STRAKE_MODELS_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/cuda/cuda_runtime.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"
#include "models/model_parts.h"
#include "models/transformer.h"

namespace strake {

// Ranks of context parallelism share the tokens of a long prompt, and have all keys and values of
// it.
//
// Between calls, the context's arena must be used as far as it was at the first. Every rank of the
// model makes a decoder and calls it alike: each has the keys and values of its own layers and
// heads.
//
// On a GPU, the work of one more token of a decoder's only sequence is enqueued directly the first
// time (libraries then load and plan what they need), recorded the second time, and launched as a
// graph from then on; but not where ops are timed or recorded, where the ranks' collectives cannot
// be captured, or where a rank has a part of the layers. Each call waits for its stream alone.
class Decoder {
 public:
  // Sequences of at most `max_tokens`. Context and models must outlive the decoder.
  // ResourceExhausted when there is no memory.
  static absl::StatusOr<Decoder> Create(const Context& ctx, const ModelParts& model,
                                        int64_t max_tokens, int num_sequences = 1);

  // Appends tokens to a sequence, and returns the logits [vocabulary] after the last of them, on
  // every rank. CHECKs that there is room, and that there is one token at least.
  absl::StatusOr<std::vector<float>> Append(absl::Span<const int32_t> tokens, int sequence = 0);

  // Appends tokens[i] to sequence sequences[i], which are different ones, and returns the logits
  // [sequences, vocabulary]. Reads each weight once. On the CPU, up to 8 sequences get the bits of
  // Append().
  absl::StatusOr<std::vector<float>> AppendToEach(absl::Span<const int> sequences,
                                                  absl::Span<const int32_t> tokens);

  // The number of tokens so far.
  int64_t length(int sequence = 0) const { return caches_[sequence][0].length(); }
  int64_t max_tokens() const { return caches_[0][0].max_tokens(); }
  // Forgets all tokens of a sequence.
  void Clear(int sequence = 0) {
    for (KvCache& cache : caches_[sequence]) cache.set_length(0);
  }

  // Bytes of the context's arena for appending `num_tokens` to `past`, with room for `max_tokens`.
  static size_t ArenaBytes(const Context& ctx, const ModelParts& model, int64_t max_tokens,
                           int64_t past, int64_t num_tokens);
  // The same for one token to each of several sequences.
  static size_t ArenaBytesOfEach(const Context& ctx, const ModelParts& model, int64_t max_tokens,
                                 int64_t past, int num_sequences);

 private:
  Decoder(const Context& ctx, const ModelParts& model) : ctx_(&ctx), model_(model) {}

  bool OnCuda() const { return model_.front().device() == Device::kCuda; }
  bool CanRecord(int64_t num_tokens) const;
  absl::Status AppendOnCuda(absl::Span<const int32_t> tokens, int sequence);
  absl::Status RunToken(int32_t token);
  absl::Status EnqueueToken();

  const Context* ctx_;
  ModelParts model_;
  std::vector<std::vector<KvCache>> caches_;  // by sequence and part

  // On a GPU.
  PinnedMemory logits_;  // [sequences, padded vocabulary], in the model's dtype
  PinnedMemory inputs_;  // the token, and the number of tokens before it
  DecodePlace place_;
  bool has_run_token_ = false;
  size_t arena_used_bytes_ = 0;  // at the first token
  std::optional<CudaGraph> graph_;
};

}  // namespace strake

#endif  // STRAKE_MODELS_DECODER_H_
