#include "train/evaluation/tokenizer_encoder.h"

#include <memory>

#include "data/tokenizer/word_cache.h"

namespace strake {

TextEncoder EncoderOf(const Tokenizer& tokenizer, bool with_special) {
  const TokenizerSpec& spec = tokenizer.spec();
  const auto cache = std::make_shared<WordCache>();
  TextEncoder encoder = {
      .append = [&tokenizer, cache](
                    absl::string_view text,
                    std::vector<int32_t>* ids) { tokenizer.Encode(text, cache.get(), ids); },
      .start = spec.begin_of_text.has_value() ? spec.begin_of_text : spec.end_of_text,
      .separator = spec.end_of_text,
      .num_bytes = [&tokenizer](int32_t id) { return tokenizer.NumBytes(id); },
      .hash = tokenizer.Hash()};
  if (with_special) {
    encoder.prefix = spec.prefix;
    encoder.suffix = spec.suffix;
  }
  if (encoder.start.has_value()) {
    encoder.start_text = tokenizer.Decode({*encoder.start}, /*skip_special=*/false);
  }
  return encoder;
}

}  // namespace strake
