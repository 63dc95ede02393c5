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
  double top_p = 1;        // keep the likeliest tokens whose probabilities add up to at least p
  uint64_t seed = 0;
};

// Samples a token for position `index` from logits [V]: the softmax of logits / temperature, cut to
// top_k, then to top_p (Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020,
// section 3.1), then Philox's number for (seed, index). The first of equal logits counts as the
// likeliest.
int64_t SampleToken(absl::Span<const float> logits, const SamplingOptions& options, int64_t index);

// The window: the maximum number of tokens that attend to each other while generating, at most the
// model's positions. When it is full, its last half becomes the prompt of a new cache, so that text
// of any length can be generated.
int64_t GenerationWindow(const ModelConfig& config, int64_t num_tokens);

// Bytes of activation arena that GenerateTokens needs for a prompt and `count` more tokens.
size_t GenerationBytes(const Context& ctx, const Transformer& model, int64_t num_prompt_tokens,
                       int64_t count);

// Continues `prompt` by `count` tokens and calls on_token with each. CHECKs that the prompt has at
// least one token and at most the model's positions, and that the model was made for sequences of
// GenerationWindow(prompt and count). Returns an error for a token outside the vocabulary, for
// logits that are not finite (Internal), and on_token's own error.
absl::Status GenerateTokens(const Context& ctx, const Transformer& model,
                            absl::Span<const int32_t> prompt, int64_t count,
                            const SamplingOptions& options,
                            absl::FunctionRef<absl::Status(int64_t token)> on_token);

}  // namespace strake

#endif  // STRAKE_MODELS_GENERATOR_H_
