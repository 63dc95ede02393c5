#include "models/generator.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "core/ops/embedding.h"
#include "glog/logging.h"

namespace strake {

int64_t SampleToken(absl::Span<const float> logits, const SamplingOptions& options, int64_t index) {
  const int64_t vocab = logits.size();
  CHECK_GT(vocab, 0) << "[generator] no logits";
  if (options.temperature == 0) {
    return std::max_element(logits.begin(), logits.end()) - logits.begin();
  }
  std::vector<int64_t> order(vocab);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return logits[a] > logits[b]; });
  if (options.top_k > 0) order.resize(std::min(options.top_k, vocab));

  const double max = logits[order[0]];
  std::vector<double> cumulative(order.size());
  double sum = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    sum += std::exp((logits[order[i]] - max) / options.temperature);
    cumulative[i] = sum;
  }
  const auto nucleus = std::lower_bound(cumulative.begin(), cumulative.end(), options.top_p * sum);
  const size_t kept = std::min<size_t>(nucleus - cumulative.begin() + 1, cumulative.size());
  const double draw =
      Philox(options.seed, RandomUse::kSampling).Uniform(index) * cumulative[kept - 1];
  const auto chosen =
      std::upper_bound(cumulative.begin(), cumulative.begin() + kept, draw) - cumulative.begin();
  return order[std::min<size_t>(chosen, kept - 1)];
}

namespace {

// Tokens of the host.
absl::StatusOr<Tensor> Decode(const Context& ctx, const Transformer& model, const Tensor& tokens,
                              KvCache* cache) {
  const Tensor input = ctx.arena().Allocate(DType::kI32, tokens.shape());
  if (!ctx.dry_run()) STRAKE_RETURN_IF_ERROR(CopyBlocking(tokens, input));
  return model.Decode(ctx, input, cache);
}

// Of f32 or bf16, on either device.
absl::StatusOr<std::vector<float>> ToFloats(const Tensor& x) {
  STRAKE_ASSIGN_OR_RETURN(const HostCopy host, HostCopy::Of(x));
  const auto convert = [&](const auto* values) {
    std::vector<float> floats(x.num_elements());
    std::transform(values, values + floats.size(), floats.begin(),
                   [](auto value) { return static_cast<float>(value); });
    return floats;
  };
  return x.dtype() == DType::kBf16 ? convert(host.tensor().data<Bf16>())
                                   : convert(host.tensor().data<float>());
}

}  // namespace

int64_t GenerationWindow(const ModelConfig& config, int64_t num_tokens) {
  return std::min(num_tokens, config.max_positions);
}

size_t GenerationBytes(const Context& ctx, const Transformer& model, int64_t num_prompt_tokens,
                       int64_t count) {
  ActivationArena plan = ActivationArena::DryRun(model.device());
  const Context dry(&ctx.team(), &plan, ctx.op_set());
  const int64_t window = GenerationWindow(model.config(), num_prompt_tokens + count);
  KvCache cache = KvCache::DryRun(model, window);
  const auto decode = [&](int64_t past, int64_t num_tokens) {
    const ActivationScope scope(plan);
    cache.set_length(past);
    CHECK(Decode(dry, model, Tensor(nullptr, DType::kI32, {num_tokens}), &cache).ok());
  };
  // Attention's scratch grows with the cache: its last token may need more than the prompt.
  decode(0, num_prompt_tokens);
  decode(window - 1, 1);
  if (window < num_prompt_tokens + count) decode(0, std::max<int64_t>(1, window / 2));
  return plan.peak_bytes();
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
  STRAKE_ASSIGN_OR_RETURN(KvCache cache, KvCache::Create(model, window));
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  STRAKE_RETURN_IF_ERROR(CheckTokens(Tensor(tokens.data(), DType::kI32, {num_prompt_tokens}),
                                     model.config().vocab_size));
  int64_t begin = 0;  // of what the cache does not hold yet
  for (int64_t i = 0; i < count; ++i) {
    const int64_t end = tokens.size();
    if (cache.length() == window) {
      cache.set_length(0);
      begin = end - std::max<int64_t>(1, window / 2);
    }
    const ActivationScope scope(ctx.arena());
    const Tensor input(tokens.data() + begin, DType::kI32, {end - begin});
    STRAKE_ASSIGN_OR_RETURN(const Tensor logits, Decode(ctx, model, input, &cache));
    begin = end;
    STRAKE_ASSIGN_OR_RETURN(const std::vector<float> scores, ToFloats(logits));
    if (!std::all_of(scores.begin(), scores.end(), [](float x) { return std::isfinite(x); })) {
      return absl::InternalError(absl::StrCat("the logits after ", end,
                                              " tokens are not finite; the model's weights are "
                                              "broken, or too large for ",
                                              DTypeName(logits.dtype())));
    }
    const int64_t token = SampleToken(scores, options, i);
    tokens.push_back(static_cast<int32_t>(token));
    STRAKE_RETURN_IF_ERROR(on_token(token));
  }
  return absl::OkStatus();
}

}  // namespace strake
