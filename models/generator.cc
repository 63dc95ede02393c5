#include "models/generator.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
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
  const int64_t likeliest = largest - logits.begin();
  if (options.temperature == 0) return likeliest;
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
  if (options.min_p > 0) {
    // The likeliest token has weight 1.
    sum = 0;
    const auto end = std::stable_partition(order.begin(), order.end(), [&](int64_t token) {
      return token == likeliest || weights[token] >= options.min_p;
    });
    order.erase(end, order.end());
    for (const int64_t token : order) sum += weights[token];
  }
  double draw = Philox(options.seed, RandomUse::kSampling).Uniform(index) * sum;
  for (const int64_t token : order) {
    draw -= weights[token];
    if (draw < 0) return token;
  }
  return order.back();
}

void PenalizeRepetition(absl::Span<const int32_t> tokens, double penalty,
                        absl::Span<float> logits) {
  const float factor = static_cast<float>(penalty);
  for (const int32_t token : tokens) {
    float& logit = logits[token];
    logit = logit < 0 ? logit * factor : logit / factor;
  }
}

int64_t GenerationWindow(const ModelConfig& config, int64_t num_tokens) {
  return std::min(num_tokens, config.max_positions);
}

namespace {

// The number of tokens that begin a new cache when a window is full.
int64_t KeptTokens(int64_t window) { return std::max<int64_t>(1, window / 2); }

absl::Status CheckFinite(absl::Span<const float> logits, int64_t num_tokens, DType dtype) {
  if (std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); })) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("the logits after ", num_tokens,
                                          " tokens are not finite; the model's weights are "
                                          "broken, or too large for ",
                                          DTypeName(dtype)));
}

// A text that grows: its prompt, then the tokens chosen.
class Sequence {
 public:
  Sequence(const Transformer& model, int64_t prompt, absl::Span<const int32_t> tokens,
           const GenerationOptions& options)
      : model_(model),
        options_(options),
        prompt_(prompt),
        num_prompt_tokens_(tokens.size()),
        sampling_(options.sampling),
        window_(GenerationWindow(model.config(), num_prompt_tokens_ + options.max_tokens)),
        tokens_(tokens.begin(), tokens.end()),
        seen_(model.config().vocab_size) {
    sampling_.seed += prompt;
    for (const int32_t token : tokens) See(token);
  }

  // The tokens that the cache needs before the next one is chosen. Clears the cache where it is
  // full, or made with RoPE's other angles.
  absl::Span<const int32_t> Next(Decoder& decoder, int slot) {
    const int64_t end = tokens_.size(), length = decoder.length(slot);
    const int64_t rope_changes = model_.RopeChangesAfter();
    if (length == window_) {
      decoder.Clear(slot);
      begin_ = end - KeptTokens(window_);
    } else if (0 < length && length <= rope_changes && length + (end - begin_) > rope_changes) {
      begin_ -= length;
      decoder.Clear(slot);
    }
    const auto next = absl::MakeConstSpan(tokens_).subspan(begin_);
    begin_ = end;
    return next;
  }

  // Chooses the next token from the logits after the tokens so far.
  absl::StatusOr<GeneratedToken> Choose(absl::Span<float> logits) {
    STRAKE_RETURN_IF_ERROR(CheckFinite(logits, tokens_.size(), model_.dtype()));
    if (sampling_.repetition_penalty != 1) {
      PenalizeRepetition(distinct_, sampling_.repetition_penalty, logits);
    }
    const int64_t count = static_cast<int64_t>(tokens_.size()) - num_prompt_tokens_;
    const int32_t token = static_cast<int32_t>(SampleToken(logits, sampling_, count));
    tokens_.push_back(token);
    See(token);
    const auto& ends = options_.end_tokens;
    const bool is_end = std::find(ends.begin(), ends.end(), token) != ends.end();
    return GeneratedToken{.prompt = prompt_,
                          .token = token,
                          .is_end = is_end,
                          .is_last = is_end || count + 1 == options_.max_tokens};
  }

 private:
  void See(int32_t token) {
    if (seen_[token]) return;
    seen_[token] = true;
    distinct_.push_back(token);
  }

  const Transformer& model_;
  const GenerationOptions& options_;
  const int64_t prompt_, num_prompt_tokens_;
  SamplingOptions sampling_;
  const int64_t window_;
  std::vector<int32_t> tokens_;
  int64_t begin_ = 0;  // of the tokens that the cache does not hold yet
  std::vector<bool> seen_;
  std::vector<int32_t> distinct_;  // the tokens seen
};

using OnToken = absl::FunctionRef<absl::Status(const GeneratedToken&)>;

// The sequences that grow together, each in a slot of the decoder.
class Batch {
 public:
  Batch(const Transformer& model, Decoder decoder, int num_slots, OnToken on_token)
      : model_(model), decoder_(std::move(decoder)), slots_(num_slots), on_token_(on_token) {}

  // A slot without a sequence, or -1.
  int FreeSlot() const {
    const auto free = std::find(slots_.begin(), slots_.end(), nullptr);
    return free == slots_.end() ? -1 : static_cast<int>(free - slots_.begin());
  }
  bool empty() const {
    return std::all_of(slots_.begin(), slots_.end(), [](const auto& s) { return s == nullptr; });
  }

  // Starts a sequence, whose first token comes from its prompt.
  absl::Status Start(int slot, std::unique_ptr<Sequence> sequence) {
    slots_[slot] = std::move(sequence);
    decoder_.Clear(slot);
    return AppendTo(slot, slots_[slot]->Next(decoder_, slot));
  }

  // Each sequence grows by a token.
  absl::Status Step() {
    std::vector<int> steady;
    std::vector<int32_t> tokens;
    for (int slot = 0; slot < static_cast<int>(slots_.size()); ++slot) {
      if (slots_[slot] == nullptr) continue;
      const absl::Span<const int32_t> next = slots_[slot]->Next(decoder_, slot);
      if (next.size() > 1 || decoder_.length(slot) == 0) {
        STRAKE_RETURN_IF_ERROR(AppendTo(slot, next));
      } else {
        steady.push_back(slot);
        tokens.push_back(next[0]);
      }
    }
    if (steady.empty()) return absl::OkStatus();
    if (steady.size() == 1) return AppendTo(steady[0], tokens);
    return AppendToEach(steady, tokens);
  }

 private:
  absl::Status AppendTo(int slot, absl::Span<const int32_t> tokens) {
    STRAKE_ASSIGN_OR_RETURN(std::vector<float> logits, decoder_.Append(tokens, slot));
    return Choose(slot, absl::MakeSpan(logits));
  }

  absl::Status AppendToEach(absl::Span<const int> slots, absl::Span<const int32_t> tokens) {
    STRAKE_ASSIGN_OR_RETURN(std::vector<float> logits, decoder_.AppendToEach(slots, tokens));
    const int64_t vocab = model_.config().vocab_size;
    for (size_t row = 0; row < slots.size(); ++row) {
      STRAKE_RETURN_IF_ERROR(
          Choose(slots[row], absl::MakeSpan(logits).subspan(row * vocab, vocab)));
    }
    return absl::OkStatus();
  }

  absl::Status Choose(int slot, absl::Span<float> logits) {
    STRAKE_ASSIGN_OR_RETURN(const GeneratedToken token, slots_[slot]->Choose(logits));
    if (token.is_last) slots_[slot] = nullptr;
    return on_token_(token);
  }

  const Transformer& model_;
  Decoder decoder_;
  std::vector<std::unique_ptr<Sequence>> slots_;
  OnToken on_token_;
};

absl::Status CheckPrompt(const ModelConfig& config, absl::Span<const int32_t> prompt) {
  const int64_t size = prompt.size();
  CHECK(1 <= size && size <= config.max_positions)
      << "[generator] a prompt of " << size << " tokens for " << config.max_positions
      << " positions";
  return CheckTokens(Tensor(const_cast<int32_t*>(prompt.data()), DType::kI32, {size}),
                     config.vocab_size);
}

}  // namespace

size_t GenerationBytes(const Context& ctx, const ModelParts& model,
                       absl::Span<const int64_t> num_prompt_tokens,
                       const GenerationOptions& options) {
  const int64_t longest = *std::max_element(num_prompt_tokens.begin(), num_prompt_tokens.end());
  const int64_t max_window = GenerationWindow(model.front().config(), longest + options.max_tokens);
  size_t most = 0;
  const auto append = [&](int64_t past, int64_t num_tokens) {
    most = std::max(most, Decoder::ArenaBytes(ctx, model, max_window, past, num_tokens));
  };
  // Kernels depend on the number of tokens, so that a shorter prompt may need more.
  for (const int64_t length : std::set(num_prompt_tokens.begin(), num_prompt_tokens.end())) {
    append(0, length);
  }
  // Attention's scratch grows with the cache: its last token may need more than the prompt.
  append(max_window - 1, 1);
  if (max_window < longest + options.max_tokens) append(0, KeptTokens(max_window));
  const int64_t rope_changes = model.front().RopeChangesAfter();
  if (0 < rope_changes && rope_changes < max_window) append(0, rope_changes + 1);
  const int batch = std::min<int64_t>(options.batch, num_prompt_tokens.size());
  for (const int together : {batch, std::min(batch, kMaxGenerationBatch)}) {
    if (together == 1) continue;
    most =
        std::max(most, Decoder::ArenaBytesOfEach(ctx, model, max_window, max_window - 1, together));
  }
  return most;
}

size_t GenerationBytes(const Context& ctx, const ModelParts& model, int64_t num_prompt_tokens,
                       int64_t count) {
  return GenerationBytes(ctx, model, {num_prompt_tokens}, {.max_tokens = count});
}

absl::Status GenerateAll(const Context& ctx, const ModelParts& model,
                         absl::Span<const std::vector<int32_t>> prompts,
                         const GenerationOptions& options, OnToken on_token) {
  if (prompts.empty() || options.max_tokens == 0) return absl::OkStatus();
  int64_t longest = 0;
  for (const std::vector<int32_t>& prompt : prompts) {
    STRAKE_RETURN_IF_ERROR(CheckPrompt(model.front().config(), prompt));
    longest = std::max<int64_t>(longest, prompt.size());
  }
  const int num_slots = static_cast<int>(std::min<int64_t>(options.batch, prompts.size()));
  STRAKE_ASSIGN_OR_RETURN(
      Decoder decoder,
      Decoder::Create(ctx, model,
                      GenerationWindow(model.front().config(), longest + options.max_tokens),
                      num_slots));
  Batch batch(model.front(), std::move(decoder), num_slots, on_token);
  for (size_t next = 0; next < prompts.size() || !batch.empty();) {
    for (int slot; next < prompts.size() && (slot = batch.FreeSlot()) >= 0; ++next) {
      STRAKE_RETURN_IF_ERROR(batch.Start(
          slot, std::make_unique<Sequence>(model.front(), next, prompts[next], options)));
    }
    STRAKE_RETURN_IF_ERROR(batch.Step());
  }
  return absl::OkStatus();
}

absl::Status GenerateTokens(const Context& ctx, const ModelParts& model,
                            absl::Span<const int32_t> prompt, int64_t count,
                            const SamplingOptions& options,
                            absl::FunctionRef<absl::Status(int64_t token)> on_token) {
  const std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  return GenerateAll(ctx, model, {tokens}, {.max_tokens = count, .sampling = options},
                     [&](const GeneratedToken& token) { return on_token(token.token); });
}

}  // namespace strake
