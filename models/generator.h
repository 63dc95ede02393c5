// Text generation: choosing tokens from logits, and the loop that feeds them back.
#ifndef STRAKE_MODELS_GENERATOR_H_
#define STRAKE_MODELS_GENERATOR_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/device/context.h"
#include "models/transformer.h"

namespace strake {

struct SamplingOptions {
  double temperature = 1;  // 0: the likeliest token (greedy)
  int64_t top_k = 0;       // keep the k likeliest; 0: all
  double top_p = 1;        // keep the likeliest whose probabilities add up to at least p
  uint64_t seed = 0;
};

// A token for position `index` from logits [V]: the softmax of logits / temperature, cut to top_k,
// then to top_p (Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020, section
// 3.1), then Philox's number for (seed, index). The first of equal logits counts as the likeliest.
int64_t SampleToken(absl::Span<const float> logits, const SamplingOptions& options, int64_t index);

// The model's positions: the most tokens that attend to each other while generating. Past it, the
// last half of the window becomes the prompt of a new cache, so that text of any length can be
// made.
int64_t GenerationWindow(const ModelConfig& config, int64_t num_tokens);

// Bytes of activation arena that GenerateTokens needs for a prompt and `count` more tokens.
size_t GenerationBytes(const Context& ctx, const Transformer& model, int64_t num_prompt_tokens,
                       int64_t count);

// Continues `prompt` by `count` tokens and calls on_token with each. CHECKs that the prompt has at
// least one token and at most the model's positions, and that the model was made for sequences of
// GenerationWindow(prompt and count). The error is that of a token outside the vocabulary, of
// logits that are not finite (Internal), or on_token's own.
absl::Status GenerateTokens(const Context& ctx, const Transformer& model,
                            absl::Span<const int32_t> prompt, int64_t count,
                            const SamplingOptions& options,
                            absl::FunctionRef<absl::Status(int64_t token)> on_token);

}  // namespace strake

#endif  // STRAKE_MODELS_GENERATOR_H_
