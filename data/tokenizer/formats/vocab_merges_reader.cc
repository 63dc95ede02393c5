#include "data/tokenizer/formats/vocab_merges_reader.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/byte_level_spec.h"
#include "data/tokenizer/formats/json_fields.h"
#include "data/tokenizer/words/known_patterns.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;

absl::Status ReadMerges(absl::string_view text, const std::string& path,
                        BpeVocabulary* vocabulary) {
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    absl::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (absl::EndsWith(line, "\r")) line.remove_suffix(1);
    if (line.empty() && text.empty()) continue;
    const absl::Status status = vocabulary->AddMerge(line, "");
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", number, status.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BpeVocabulary> ReadVocabMerges(const json& vocab, const std::string& vocab_path,
                                              absl::string_view merges,
                                              const std::string& merges_path) {
  STRAKE_ASSIGN_OR_RETURN(BpeVocabulary vocabulary, BpeVocabulary::Create(vocab, vocab_path));
  STRAKE_RETURN_IF_ERROR(ReadMerges(merges, merges_path, &vocabulary));
  return vocabulary;
}

absl::StatusOr<TokenizerSpec> SpecOfClass(const std::string& tokenizer_class) {
  absl::string_view name = tokenizer_class;
  if (absl::EndsWith(name, "Fast")) name.remove_suffix(4);
  if (name == "GPT2Tokenizer") return ByteLevelSpec(kGpt2Words);
  if (name == "Qwen2Tokenizer") {
    TokenizerSpec spec = ByteLevelSpec(kQwen2Words);
    spec.normalizers.push_back({Normalizer::Kind::kNfc});
    return spec;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("how a ", QuoteText(tokenizer_class),
                   " cuts a text into words is not known: a tokenizer.json would say so"));
}

}  // namespace strake
