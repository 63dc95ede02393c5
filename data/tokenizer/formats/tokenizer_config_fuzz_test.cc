// Bytes as each of the files beside a tokenizer's: any content gives an error or a sound spec.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/fuzz_tokenizer_spec.h"
#include "data/tokenizer/formats/tokenizer_config.h"
#include "data/tokenizer/tokenizer_spec.h"
#include "glog/logging.h"

namespace strake {
namespace {

// The bytes, "<left>", and an id that is no token's yet.
TokenizerSpec SmallSpec() {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(1, static_cast<char>(byte));
  spec.tokens.emplace_back("<left>");
  spec.tokens.emplace_back();
  spec.added.push_back({.id = 256, .text = "<left>", .special = true});
  return spec;
}

absl::StatusOr<TokenizerSpec> SpecWith(const TokenizerConfigTexts& texts) {
  STRAKE_ASSIGN_OR_RETURN(const TokenizerConfig config, ParseTokenizerConfig(texts, "fuzz"));
  TokenizerSpec spec = SmallSpec();
  STRAKE_RETURN_IF_ERROR(AddConfiguredTokens(config, "fuzz.model", &spec));
  STRAKE_RETURN_IF_ERROR(SetEnds(config, "fuzz.model", &spec));
  SetPrefixAndSuffix(config, &spec);
  return spec;
}

void CheckEnd(const TokenizerSpec& spec, std::optional<int32_t> end) {
  if (end.has_value()) CHECK(*end >= 0 && *end < spec.tokens.size()) << *end;
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const auto file : {&strake::TokenizerConfigTexts::tokenizer_config,
                          &strake::TokenizerConfigTexts::added_tokens,
                          &strake::TokenizerConfigTexts::generation_config}) {
    strake::TokenizerConfigTexts texts;
    texts.*file = text;
    absl::StatusOr<strake::TokenizerSpec> spec = strake::SpecWith(texts);
    if (spec.ok()) strake::CheckEnd(*spec, spec->begin_of_text);
    if (spec.ok()) strake::CheckEnd(*spec, spec->end_of_text);
    // Millions of tokens say no more, and take long.
    if (!spec.ok() || spec->tokens.size() < 10000) strake::UseSpec(std::move(spec));
  }
  return 0;
}
