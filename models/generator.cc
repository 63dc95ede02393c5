#include "models/generator.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/ops/embedding/embedding.h"
#include "glog/logging.h"
#include "models/decoder.h"

namespace strake {

namespace {

// Sorts by value; of equal values the first.
auto LargerOf(absl::Span<const float> values) {
  return [values](int64_t a, int64_t b) {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  };
}

// The number of the likeliest tokens that reach `share` of the probability; sorts them to the front
// of `order`. The weights of `order` add up to `sum`.
int64_t SortNucleus(double share, double sum, absl::Span<const float> weights,
                    std::vector<int64_t>* order) {
  const int64_t size = order->size();
  double reached = 0;
  int64_t sorted = 0;
  for (int64_t i = 0; i < size; ++i) {
    if (i == sorted) {
      // Usually a few tokens of a large vocabulary are enough.
      sorted = std::min(size, std::max<int64_t>(64, 4 * sorted));
      std::partial_sort(order->begin() + i, order->begin() + sorted, order->end(),
                        LargerOf(weights));
    }
    reached += weights[(*order)[i]];
    if (reached >= share * sum) return i + 1;
  }
  return size;
}

}  // namespace

int64_t SampleToken(absl::Span<const float> logits, const SamplingOptions& options, int64_t index) {
  const int64_t vocab = logits.size();
  CHECK_GT(vocab, 0) << "[generator] no logits";
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (options.temperature == 0) return largest - logits.begin();
  std::vector<int64_t> order(vocab);
  std::iota(order.begin(), order.end(), 0);
  if (0 < options.top_k && options.top_k < vocab) {
    std::nth_element(order.begin(), order.begin() + options.top_k, order.end(), LargerOf(logits));
    order.resize(options.top_k);
  }

  std::vector<float> weights(vocab);
  double sum = 0;
  for (const int64_t token : order) {
    weights[token] =
        std::exp(static_cast<float>((double(logits[token]) - *largest) / options.temperature));
    sum += weights[token];
  }
  if (options.top_p < 1) {
    order.resize(SortNucleus(options.top_p, sum, weights, &order));
    sum = 0;
    for (const int64_t token : order) sum += weights[token];
  }
  double draw = Philox(options.seed, RandomUse::kSampling).Uniform(index) * sum;
  for (const int64_t token : order) {
    draw -= weights[token];
    if (draw < 0) return token;
  }
  return order.back();
}

int64_t GenerationWindow(const ModelConfig& config, int64_t num_tokens) {
  return std::min(num_tokens, config.max_positions);
}

size_t GenerationBytes(const Context& ctx, const Transformer& model, int64_t num_prompt_tokens,
                       int64_t count) {
  const int64_t window = GenerationWindow(model.config(), num_prompt_tokens + count);
  const auto bytes = [&](int64_t past, int64_t num_tokens) {
    return Decoder::ArenaBytes(ctx, model, window, past, num_tokens);
  };
  // Attention's scratch grows with the cache: its last token may need more than the prompt.
  const size_t prompt_and_tokens = std::max(bytes(0, num_prompt_tokens), bytes(window - 1, 1));
  if (window == num_prompt_tokens + count) return prompt_and_tokens;
  return std::max(prompt_and_tokens, bytes(0, std::max<int64_t>(1, window / 2)));
}

absl::Status GenerateTokens(const Context& ctx, const Transformer& model,
                            absl::Span<const int32_t> prompt, int64_t count,
                            const SamplingOptions& options,
                            absl::FunctionRef<absl::Status(int64_t token)> on_token) {
  const int64_t num_prompt_tokens = prompt.size();
  CHECK(1 <= num_prompt_tokens && num_prompt_tokens <= model.config().max_positions)
      << "[generator] a prompt of " << num_prompt_tokens << " tokens for "
      << model.config().max_positions << " positions";
  const int64_t window = GenerationWindow(model.config(), num_prompt_tokens + count);
  STRAKE_ASSIGN_OR_RETURN(Decoder decoder, Decoder::Create(ctx, model, window));
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  STRAKE_RETURN_IF_ERROR(CheckTokens(Tensor(tokens.data(), DType::kI32, {num_prompt_tokens}),
                                     model.config().vocab_size));
  int64_t begin = 0;  // of the tokens that the cache does not hold yet
  for (int64_t i = 0; i < count; ++i) {
    const int64_t end = tokens.size();
    if (decoder.length() == window) {
      decoder.Clear();
      begin = end - std::max<int64_t>(1, window / 2);
    }
    STRAKE_ASSIGN_OR_RETURN(
        const std::vector<float> scores,
        decoder.Append(absl::MakeConstSpan(tokens).subspan(begin, end - begin)));
    begin = end;
    if (!std::all_of(scores.begin(), scores.end(), [](float x) { return std::isfinite(x); })) {
      return absl::InternalError(absl::StrCat("the logits after ", end,
                                              " tokens are not finite; the model's weights are "
                                              "broken, or too large for ",
                                              DTypeName(model.dtype())));
    }
    const int64_t token = SampleToken(scores, options, i);
    tokens.push_back(static_cast<int32_t>(token));
    STRAKE_RETURN_IF_ERROR(on_token(token));
  }
  return absl::OkStatus();
}

}  // namespace strake
