#include "data/tokenizer/formats/tokenizer_json_writer.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/byte_letters.h"
#include "data/tokenizer/formats/oniguruma_pattern.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using Json = nlohmann::ordered_json;

absl::Status HasNoForm(const char* component) {
  return absl::UnimplementedError(
      absl::StrCat("tokenizer.json: has no form for ", component,
                   "; copy the files that this tokenizer was read from instead"));
}

absl::StatusOr<Json> NormalizerJson(const Normalizer& n) {
  switch (n.kind) {
    case Normalizer::Kind::kNfc:
      return Json{{"type", "NFC"}};
    case Normalizer::Kind::kNfd:
      return Json{{"type", "NFD"}};
    case Normalizer::Kind::kNfkc:
      return Json{{"type", "NFKC"}};
    case Normalizer::Kind::kNfkd:
      return Json{{"type", "NFKD"}};
    case Normalizer::Kind::kLowercase:
      return Json{{"type", "Lowercase"}};
    case Normalizer::Kind::kPrepend:
      return Json{{"type", "Prepend"}, {"prepend", n.content}};
    case Normalizer::Kind::kReplace:
      return Json{
          {"type", "Replace"}, {"pattern", {{"String", n.pattern}}}, {"content", n.content}};
    case Normalizer::Kind::kReplaceRegex:
      return Json{{"type", "Replace"}, {"pattern", {{"Regex", n.pattern}}}, {"content", n.content}};
    case Normalizer::Kind::kStrip:
      return Json{{"type", "Strip"}, {"strip_left", n.left}, {"strip_right", n.right}};
    case Normalizer::Kind::kCharsMap:
      return HasNoForm("SentencePiece's map of characters");
    case Normalizer::Kind::kCollapseBlanks:
      return HasNoForm("SentencePiece's removal of blanks");
  }
  LOG(FATAL) << "unknown normalizer " << static_cast<int>(n.kind);
}

const char* BehaviorName(PreTokenizer::Behavior behavior) {
  constexpr std::array<const char*, 5> kNames = {"Isolated", "Removed", "MergedWithPrevious",
                                                 "MergedWithNext", "Contiguous"};
  return kNames[static_cast<int>(behavior)];
}

Json ByteLevelJson(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

// Whoever reads the file takes expressions for Oniguruma's.
absl::Status CheckMeansTheSame(const std::string& pattern) {
  const auto read = Pcre2OfOniguruma(pattern);
  if (read.ok() && *read == pattern) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      "tokenizer.json: the expression \"", pattern, "\" would mean something else there",
      read.ok() ? ", as X{n,m}+, X{n}?, ^ and $ do; write (?>X{n,m}) for the first, and no others"
                : absl::StrCat(": ", read.status().message())));
}

absl::StatusOr<Json> PreTokenizerJson(const PreTokenizer& p) {
  constexpr std::array<const char*, 3> kPrepend = {"never", "first", "always"};
  switch (p.kind) {
    case PreTokenizer::Kind::kSplit:
      if (!p.literal) STRAKE_RETURN_IF_ERROR(CheckMeansTheSame(p.pattern));
      return Json{{"type", "Split"},
                  {"pattern", {{p.literal ? "String" : "Regex", p.pattern}}},
                  {"behavior", BehaviorName(p.behavior)},
                  {"invert", p.invert}};
    case PreTokenizer::Kind::kByteLevel:
      return ByteLevelJson(p.add_prefix_space, p.use_regex);
    case PreTokenizer::Kind::kDigits:
      return Json{{"type", "Digits"}, {"individual_digits", p.individual}};
    case PreTokenizer::Kind::kPunctuation:
      return Json{{"type", "Punctuation"}, {"behavior", BehaviorName(p.behavior)}};
    case PreTokenizer::Kind::kWhitespace:
      return Json{{"type", "Whitespace"}};
    case PreTokenizer::Kind::kMetaspace:
      return Json{{"type", "Metaspace"},
                  {"replacement", p.pattern},
                  {"prepend_scheme", kPrepend[static_cast<int>(p.prepend)]},
                  {"split", p.split}};
  }
  LOG(FATAL) << "unknown pre-tokenizer " << static_cast<int>(p.kind);
}

// Nothing, the only component, or a Sequence of several.
Json SequenceOf(std::vector<Json> components, const char* member) {
  if (components.empty()) return nullptr;
  if (components.size() == 1) return components[0];
  return {{"type", "Sequence"}, {member, std::move(components)}};
}

absl::StatusOr<Json> NormalizersJson(const TokenizerSpec& spec) {
  std::vector<Json> components;
  for (const Normalizer& normalizer : spec.normalizers) {
    STRAKE_ASSIGN_OR_RETURN(Json json, NormalizerJson(normalizer));
    components.push_back(std::move(json));
  }
  return SequenceOf(std::move(components), "normalizers");
}

absl::StatusOr<Json> PreTokenizersJson(const TokenizerSpec& spec) {
  std::vector<Json> components;
  bool has_byte_level = false;
  for (const PreTokenizer& pre_tokenizer : spec.pre_tokenizers) {
    STRAKE_ASSIGN_OR_RETURN(Json json, PreTokenizerJson(pre_tokenizer));
    components.push_back(std::move(json));
    has_byte_level |= pre_tokenizer.kind == PreTokenizer::Kind::kByteLevel;
  }
  // The spec's tokens are bytes by themselves. Those of the file are letters.
  if (!has_byte_level) components.push_back(ByteLevelJson(false, false));
  return SequenceOf(std::move(components), "pretokenizers");
}

Json AddedTokensJson(const TokenizerSpec& spec) {
  std::vector<AddedToken> added = spec.added;
  std::sort(added.begin(), added.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  Json tokens = Json::array();
  for (const AddedToken& token : added) {
    tokens.push_back({{"id", token.id},
                      {"content", token.text},
                      {"single_word", token.single_word},
                      {"lstrip", token.lstrip},
                      {"rstrip", token.rstrip},
                      {"normalized", token.normalized},
                      {"special", token.special}});
  }
  return tokens;
}

// A text in a template: the special tokens before and after the sequence `name`.
void AddToTemplate(const TokenizerSpec& spec, const char* name, int type_id, Json* pieces) {
  const auto add_special = [&](int32_t id) {
    pieces->push_back({{"SpecialToken", {{"id", spec.tokens[id]}, {"type_id", type_id}}}});
  };
  for (const int32_t id : spec.prefix) add_special(id);
  pieces->push_back({{"Sequence", {{"id", name}, {"type_id", type_id}}}});
  for (const int32_t id : spec.suffix) add_special(id);
}

Json PostProcessorJson(const TokenizerSpec& spec) {
  if (spec.prefix.empty() && spec.suffix.empty()) return nullptr;
  Json single = Json::array(), pair = Json::array(), special = Json::object();
  AddToTemplate(spec, "A", 0, &single);
  AddToTemplate(spec, "A", 0, &pair);
  AddToTemplate(spec, "B", 1, &pair);
  for (const std::vector<int32_t>* ids : {&spec.prefix, &spec.suffix}) {
    for (const int32_t id : *ids) {
      const std::string& text = spec.tokens[id];
      special[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
    }
  }
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(special)}};
}

// Tokens as the file has them: letters for bytes, but an added token's text as it is.
std::vector<std::string> FileTokens(const TokenizerSpec& spec) {
  std::vector<std::string> tokens;
  for (const std::string& token : spec.tokens) tokens.push_back(ByteLetters(token));
  for (const AddedToken& added : spec.added) {
    if (added.id >= int64_t(tokens.size())) tokens.resize(added.id + 1);
    tokens[added.id] = added.text;
  }
  return tokens;
}

// A line per token. An object of the JSON library would look for each key among all before it.
std::string VocabJson(const std::vector<std::string>& tokens) {
  std::string text = "{";
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].empty()) continue;
    absl::StrAppend(&text, text.size() > 1 ? "," : "", "\n      ", JsonText(Json(tokens[id])), ": ",
                    id);
  }
  return text + "\n    }";
}

// Letters hold no blank, so one separates the two tokens. All versions of tokenizers read this.
std::string MergesJson(const TokenizerSpec& spec, const std::vector<std::string>& tokens) {
  std::vector<Merge> merges = spec.merges;
  std::sort(merges.begin(), merges.end(),
            [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
  std::string text = "[";
  for (const Merge& merge : merges) {
    absl::StrAppend(&text, text.size() > 1 ? "," : "", "\n      ",
                    JsonText(Json(absl::StrCat(tokens[merge.left], " ", tokens[merge.right]))));
  }
  return text + (merges.empty() ? "]" : "\n    ]");
}

std::string ModelJson(const TokenizerSpec& spec) {
  const std::vector<std::string> tokens = FileTokens(spec);
  return absl::StrCat(R"({
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": )",
                      spec.whole_words ? "true" : "false", ",\n    \"vocab\": ", VocabJson(tokens),
                      ",\n    \"merges\": ", MergesJson(spec, tokens), "\n  }");
}

absl::Status CheckIsByteLevel(const TokenizerSpec& spec) {
  if (!spec.byte_level) return HasNoForm("a vocabulary that is not byte-level");
  for (const DecodingStep& decoder : spec.decoders) {
    if (decoder.kind != DecodingStep::Kind::kByteLevel)
      return HasNoForm("a decoder beside ByteLevel");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> TokenizerJson(const TokenizerSpec& spec) {
  STRAKE_RETURN_IF_ERROR(CheckIsByteLevel(spec));
  STRAKE_ASSIGN_OR_RETURN(const Json normalizer, NormalizersJson(spec));
  STRAKE_ASSIGN_OR_RETURN(const Json pre_tokenizer, PreTokenizersJson(spec));
  std::string text = "{\n  \"version\": \"1.0\"";
  for (const auto& [name, value] : std::initializer_list<std::pair<const char*, const Json>>{
           {"truncation", nullptr},
           {"padding", nullptr},
           {"added_tokens", AddedTokensJson(spec)},
           {"normalizer", normalizer},
           {"pre_tokenizer", pre_tokenizer},
           {"post_processor", PostProcessorJson(spec)},
           {"decoder", ByteLevelJson(false, false)},
       }) {
    absl::StrAppend(&text, ",\n  \"", name, "\": ", JsonText(value));
  }
  return absl::StrCat(text, ",\n  \"model\": ", ModelJson(spec), "\n}\n");
}

std::string TokenizerConfigJson(const TokenizerSpec& spec) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false}};
  if (spec.begin_of_text) config["bos_token"] = FileTokens(spec)[*spec.begin_of_text];
  if (spec.end_of_text) config["eos_token"] = FileTokens(spec)[*spec.end_of_text];
  return JsonText(config, 2) + "\n";
}

absl::StatusOr<std::map<std::string, std::string>> TokenizerFiles(const TokenizerSpec& spec) {
  STRAKE_ASSIGN_OR_RETURN(std::string json, TokenizerJson(spec));
  return std::map<std::string, std::string>{
      {"tokenizer.json", std::move(json)},
      {"tokenizer_config.json", TokenizerConfigJson(spec)},
  };
}

std::map<std::string, std::string> ByteTokenizerFiles() {
  return *TokenizerFiles(ByteTokenizerSpec());
}

}  // namespace strake
