// Text generation: choosing tokens from logits, and the loop that feeds them back.
#ifndef STRAKE_MODELS_GENERATOR_H_
#define STRAKE_MODELS_GENERATOR_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/device/context.h"
#include "models/model_config.h"
#include "models/model_parts.h"

namespace strake {

// In the order in which they apply, which is that of Hugging Face's transformers.
struct SamplingOptions {
  double repetition_penalty = 1;  // of tokens that the text has already; 1: none
  double temperature = 1;         // 0: the likeliest token (greedy), whatever the next three
  int64_t top_k = 0;              // keep the k likeliest; 0: all
  double top_p = 1;  // keep the likeliest tokens whose probabilities add up to at least p
  double min_p = 0;  // keep tokens of at least this share of the likeliest one's probability
  uint64_t seed = 0;
};

// Samples a token for position `index` from logits [V]: the softmax of logits / temperature, cut to
// top_k, then to top_p (Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020,
// section 3.1), then to min_p (Nguyen et al., "Turning Up the Heat: Min-p Sampling", 2024, section
// 3), then Philox's number for (seed, index). The first of equal logits counts as the likeliest.
int64_t SampleToken(absl::Span<const float> logits, const SamplingOptions& options, int64_t index);

// Divides the logits of `tokens`, which are different ones, by `penalty` where they are positive,
// and multiplies them by it where they are negative. Source: Keskar et al., "CTRL", 2019, section
// 4.1; for negative logits, transformers.
void PenalizeRepetition(absl::Span<const int32_t> tokens, double penalty, absl::Span<float> logits);

// The window: the maximum number of tokens that attend to each other while generating, at most the
// model's positions. When it is full, its last half becomes the prompt of a new cache, so that text
// of any length can be generated.
int64_t GenerationWindow(const ModelConfig& config, int64_t num_tokens);

// Up to 8, each weight is read once for all sequences, and on the CPU each has the bits that it has
// alone.
inline constexpr int kMaxGenerationBatch = 8;

struct GenerationOptions {
  int64_t max_tokens = 0;  // after the prompt
  // The seed of prompt i is seed + i: a prompt that is given twice has two continuations.
  SamplingOptions sampling = {};
  // The tokens that end a text.
  std::vector<int32_t> end_tokens = {};
  // Sequences at a time. As one ends, the next prompt takes its place.
  int batch = kMaxGenerationBatch;
};

struct GeneratedToken {
  int64_t prompt = 0;  // whose continuation it belongs to
  int32_t token = 0;
  bool is_end = false;   // it is one of end_tokens
  bool is_last = false;  // nothing follows: it is an end, or max_tokens are reached
};

// Bytes of activation arena that GenerateAll needs for prompts of these lengths.
size_t GenerationBytes(const Context& ctx, const ModelParts& model,
                       absl::Span<const int64_t> num_prompt_tokens,
                       const GenerationOptions& options);
// The same of GenerateTokens, for a prompt and `count` more tokens.
size_t GenerationBytes(const Context& ctx, const ModelParts& model, int64_t num_prompt_tokens,
                       int64_t count);

// Continues each prompt, on every rank of the model alike, and calls on_token with each new token:
// those of a prompt in order, those of different prompts in any. On the CPU, a continuation does
// not depend on the other prompts. CHECKs that the prompts have at least one token and at most the
// model's positions, and that the model was made for sequences of GenerationWindow(prompt and
// max_tokens). Returns an error for a token outside the vocabulary, for logits that are not finite
// (Internal), and on_token's own error.
//
// Where RoPE's angles depend on a sequence's length (RopeLongScaling), they are those of its length
// so far, and the cache is computed anew when they change.
absl::Status GenerateAll(const Context& ctx, const ModelParts& model,
                         absl::Span<const std::vector<int32_t>> prompts,
                         const GenerationOptions& options,
                         absl::FunctionRef<absl::Status(const GeneratedToken&)> on_token);

// The same for one prompt, by exactly `count` tokens.
absl::Status GenerateTokens(const Context& ctx, const ModelParts& model,
                            absl::Span<const int32_t> prompt, int64_t count,
                            const SamplingOptions& options,
                            absl::FunctionRef<absl::Status(int64_t token)> on_token);

}  // namespace strake

#endif  // STRAKE_MODELS_GENERATOR_H_
