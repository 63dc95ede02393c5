#include "data/tokenizer/formats/tokenizer_json_components.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/bpe_vocabulary.h"
#include "data/tokenizer/formats/json_fields.h"
#include "data/tokenizer/formats/oniguruma_pattern.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;

// The component of a `where` that is "FILE: normalizer" and an object whose "type" is Lowercase:
// "FILE: normalizer, Lowercase".
JsonFields Component(const json& value, const std::string& where, std::string* type) {
  JsonFields fields(value, where);
  *type = fields.String("type");
  if (type->empty()) {
    fields.Fail("has no \"type\"");
    return fields;
  }
  JsonFields named(value, absl::StrCat(where, ", ", *type));
  named.Ignore({"type"});
  return named;
}

absl::Status Unknown(const std::string& where, const std::string& type) {
  return absl::InvalidArgumentError(
      absl::StrCat(where, " is of the type ", type, ", which Strake does not have"));
}

// Calls read(part, where of the part) for each part of a Sequence.
template <typename Read>
absl::Status ReadSequence(JsonFields* fields, const std::string& where, const std::string& key,
                          Read read) {
  const json* parts = fields->Find(key);
  if (parts == nullptr || !parts->is_array()) {
    fields->Fail(absl::StrCat("has no list \"", key, "\""));
  }
  STRAKE_RETURN_IF_ERROR(fields->Finish());
  for (size_t i = 0; i < parts->size(); ++i) {
    STRAKE_RETURN_IF_ERROR(read((*parts)[i], absl::StrCat(where, ".", key, "[", i, "]")));
  }
  return absl::OkStatus();
}

struct Pattern {
  std::string text = {};
  bool literal = false;
};

std::string TranslatePattern(const std::string& pattern, JsonFields* fields) {
  const auto translated = Pcre2OfOniguruma(pattern);
  if (translated.ok()) return *translated;
  fields->Fail(absl::StrCat("has the expression ", QuoteText(pattern), ", which ",
                            translated.status().message()));
  return pattern;
}

// {"String": ...} or {"Regex": ...}.
Pattern ReadPattern(JsonFields* fields, const std::string& key) {
  const json* value = fields->Find(key);
  if (value != nullptr && value->is_object() && value->size() == 1 && value->front().is_string()) {
    const std::string& kind = value->items().begin().key();
    const auto text = value->front().get<std::string>();
    if (kind == "String") return {text, /*literal=*/true};
    if (kind == "Regex") return {TranslatePattern(text, fields), /*literal=*/false};
  }
  fields->Fail(absl::StrCat("has no \"", key, R"(" that is {"String": ...} or {"Regex": ...})"));
  return {};
}

// Normalizers.

std::optional<Normalizer::Kind> PlainNormalizer(const std::string& type) {
  using Kind = Normalizer::Kind;
  if (type == "NFC") return Kind::kNfc;
  if (type == "NFD") return Kind::kNfd;
  if (type == "NFKC") return Kind::kNfkc;
  if (type == "NFKD") return Kind::kNfkd;
  if (type == "Lowercase") return Kind::kLowercase;
  return std::nullopt;
}

Normalizer ReadReplace(JsonFields* fields) {
  const Pattern pattern = ReadPattern(fields, "pattern");
  Normalizer result;
  result.kind = pattern.literal ? Normalizer::Kind::kReplace : Normalizer::Kind::kReplaceRegex;
  result.pattern = pattern.text;
  result.content = fields->String("content");
  return result;
}

Normalizer ReadPrecompiled(JsonFields* fields) {
  Normalizer result;
  result.kind = Normalizer::Kind::kCharsMap;
  if (!absl::Base64Unescape(fields->String("precompiled_charsmap"), &result.content)) {
    fields->Fail("has a \"precompiled_charsmap\" that is not base64");
  }
  return result;
}

std::optional<Normalizer> NormalizerOf(const std::string& type, JsonFields* fields) {
  if (const auto kind = PlainNormalizer(type)) return Normalizer{*kind};
  if (type == "Replace") return ReadReplace(fields);
  if (type == "Precompiled") return ReadPrecompiled(fields);
  if (type == "Prepend") {
    return Normalizer{Normalizer::Kind::kPrepend, "", fields->String("prepend")};
  }
  if (type == "Strip") {
    Normalizer result{Normalizer::Kind::kStrip};
    result.left = fields->Bool("strip_left", true);
    result.right = fields->Bool("strip_right", true);
    return result;
  }
  return std::nullopt;
}

// Pre-tokenizers.

PreTokenizer::Behavior ReadBehavior(JsonFields* fields, absl::string_view absent) {
  using Behavior = PreTokenizer::Behavior;
  const std::string name = fields->String("behavior", absent);
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  fields->Fail(absl::StrCat("has \"behavior\": ", QuoteText(name), ", which is not known"));
  return Behavior::kIsolated;
}

PreTokenizer ReadSplit(JsonFields* fields) {
  const Pattern pattern = ReadPattern(fields, "pattern");
  PreTokenizer result;
  result.pattern = pattern.text;
  result.literal = pattern.literal;
  result.behavior = ReadBehavior(fields, "");
  result.invert = fields->Bool("invert", false);
  return result;
}

PreTokenizer ReadRemovedSplit(std::string pattern, bool literal) {
  PreTokenizer result;
  result.pattern = std::move(pattern);
  result.literal = literal;
  result.behavior = PreTokenizer::Behavior::kRemoved;
  return result;
}

PreTokenizer ReadByteLevel(JsonFields* fields) {
  PreTokenizer result;
  result.kind = PreTokenizer::Kind::kByteLevel;
  result.add_prefix_space = fields->Bool("add_prefix_space", true);
  result.use_regex = fields->Bool("use_regex", true);
  fields->Ignore({"trim_offsets"});  // offsets are not ours to give
  return result;
}

// Metaspace is a pre-tokenizer and a decoder of the same fields. Files of before 2024 have
// "add_prefix_space" alone.
PreTokenizer ReadMetaspace(JsonFields* fields) {
  PreTokenizer result;
  result.kind = PreTokenizer::Kind::kMetaspace;
  result.pattern = fields->String("replacement");
  result.split = fields->Bool("split", true);
  fields->Ignore({"str_rep"});  // the replacement once more
  const bool prefix_space = fields->Bool("add_prefix_space", true);
  const std::string scheme = fields->String("prepend_scheme", prefix_space ? "always" : "never");
  if (scheme == "always") result.prepend = PreTokenizer::Prepend::kAlways;
  if (scheme == "first") result.prepend = PreTokenizer::Prepend::kFirst;
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    fields->Fail(
        absl::StrCat("has \"prepend_scheme\": ", QuoteText(scheme), ", which is not known"));
  }
  if (!prefix_space && scheme != "never") {
    fields->Fail(absl::StrCat("has \"add_prefix_space\": false and \"prepend_scheme\": ",
                              QuoteText(scheme), ", which contradict each other"));
  }
  return result;
}

std::optional<PreTokenizer> PreTokenizerOf(const std::string& type, JsonFields* fields) {
  PreTokenizer result;
  if (type == "Split") return ReadSplit(fields);
  if (type == "ByteLevel") return ReadByteLevel(fields);
  if (type == "Metaspace") return ReadMetaspace(fields);
  if (type == "WhitespaceSplit") return ReadRemovedSplit("\\s+", /*literal=*/false);
  if (type == "CharDelimiterSplit") {
    return ReadRemovedSplit(fields->String("delimiter"), /*literal=*/true);
  }
  if (type == "Whitespace") {
    result.kind = PreTokenizer::Kind::kWhitespace;
  } else if (type == "Digits") {
    result.kind = PreTokenizer::Kind::kDigits;
    result.individual = fields->Bool("individual_digits", false);
  } else if (type == "Punctuation") {
    result.kind = PreTokenizer::Kind::kPunctuation;
    result.behavior = ReadBehavior(fields, "Isolated");
  } else {
    return std::nullopt;
  }
  return result;
}

// Decoders.

DecodingStep ReadReplaceDecoder(JsonFields* fields) {
  const Pattern pattern = ReadPattern(fields, "pattern");
  if (!pattern.literal) fields->Fail("has a \"pattern\" that is no literal text");
  return {DecodingStep::Kind::kReplace, pattern.text, fields->String("content")};
}

DecodingStep ReadStripDecoder(JsonFields* fields) {
  DecodingStep result{DecodingStep::Kind::kStrip, "", fields->String("content")};
  result.start = fields->Int("start");
  result.stop = fields->Int("stop");
  if (result.start < 0 || result.stop < 0) fields->Fail("has a negative \"start\" or \"stop\"");
  return result;
}

DecodingStep ReadMetaspaceDecoder(JsonFields* fields) {
  const PreTokenizer metaspace = ReadMetaspace(fields);
  DecodingStep result{DecodingStep::Kind::kMetaspace, metaspace.pattern};
  result.drop_first = metaspace.prepend != PreTokenizer::Prepend::kNever;
  return result;
}

std::optional<DecodingStep> DecoderOf(const std::string& type, JsonFields* fields) {
  if (type == "Replace") return ReadReplaceDecoder(fields);
  if (type == "Strip") return ReadStripDecoder(fields);
  if (type == "Metaspace") return ReadMetaspaceDecoder(fields);
  if (type == "ByteFallback") return DecodingStep{DecodingStep::Kind::kByteFallback};
  if (type == "Fuse") return DecodingStep{DecodingStep::Kind::kFuse};
  if (type == "ByteLevel") {
    fields->Ignore({"add_prefix_space", "trim_offsets", "use_regex"});  // of its pre-tokenizer
    return DecodingStep{DecodingStep::Kind::kByteLevel};
  }
  return std::nullopt;
}

// Post-processors.

struct Template {
  std::vector<int32_t> prefix = {}, suffix = {};
};

// The ids of a template's special token: {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}.
std::vector<int32_t> IdsOf(const json* special_tokens, const std::string& token,
                           JsonFields* fields) {
  std::vector<int32_t> result;
  if (special_tokens != nullptr && special_tokens->is_object() && special_tokens->contains(token)) {
    const json& entry = (*special_tokens)[token];
    const json ids = entry.is_object() ? entry.value("ids", json()) : json();
    for (const json& id : ids) {
      if (IsTokenId(id)) result.push_back(id.get<int32_t>());
    }
    if (ids.is_array() && result.size() == ids.size()) return result;
  }
  fields->Fail(absl::StrCat("has no ids for the special token ", QuoteText(token)));
  return {};
}

// "single" is a list of {"SpecialToken": {"id": ...}} and, once, {"Sequence": {"id": "A"}}.
Template ReadTemplate(JsonFields* fields) {
  const json* single = fields->Find("single");
  const json* special_tokens = fields->Find("special_tokens");
  fields->Ignore({"pair"});  // of two texts; there is one
  Template result;
  int num_texts = 0;
  for (const json& part : single != nullptr ? *single : json::array()) {
    const bool known = part.is_object() && part.size() == 1 && part.front().is_object();
    const std::string kind = known ? part.items().begin().key() : "";
    if (kind == "Sequence") {
      ++num_texts;
    } else if (kind == "SpecialToken" && part.front().contains("id") &&
               part.front()["id"].is_string()) {
      const auto ids = IdsOf(special_tokens, part.front()["id"].get<std::string>(), fields);
      std::vector<int32_t>& side = num_texts == 0 ? result.prefix : result.suffix;
      side.insert(side.end(), ids.begin(), ids.end());
    } else {
      fields->Fail(absl::StrCat("has the part ", QuoteJson(part), ", which is not known"));
    }
  }
  if (num_texts != 1) {
    fields->Fail(absl::StrCat("has ", num_texts, " texts in \"single\", where 1 belongs"));
  }
  return result;
}

// ["</s>", 2].
std::vector<int32_t> ReadPair(JsonFields* fields, const std::string& key) {
  const json* pair = fields->Find(key);
  if (pair != nullptr && pair->is_array() && pair->size() == 2 && IsTokenId((*pair)[1])) {
    return {(*pair)[1].get<int32_t>()};
  }
  fields->Fail(absl::StrCat("has no \"", key, "\" that is a token and its id"));
  return {};
}

std::optional<Template> TemplateOf(const std::string& type, JsonFields* fields) {
  if (type == "TemplateProcessing") return ReadTemplate(fields);
  if (type == "ByteLevel" || type == "RobertaProcessing") {
    fields->Ignore({"add_prefix_space", "trim_offsets", "use_regex"});  // of offsets
  }
  if (type == "ByteLevel") return Template{};
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    return Template{ReadPair(fields, "cls"), ReadPair(fields, "sep")};
  }
  return std::nullopt;
}

}  // namespace

absl::Status ReadNormalizer(const json& value, const std::string& where,
                            std::vector<Normalizer>* normalizers) {
  if (value.is_null()) return absl::OkStatus();
  std::string type;
  JsonFields fields = Component(value, where, &type);
  if (type == "Sequence") {
    return ReadSequence(&fields, where, "normalizers", [&](const json& part, const auto& at) {
      return ReadNormalizer(part, at, normalizers);
    });
  }
  auto normalizer = NormalizerOf(type, &fields);
  if (!normalizer && !type.empty()) return Unknown(where, type);
  if (normalizer) normalizers->push_back(*std::move(normalizer));
  return fields.Finish();
}

absl::Status ReadPreTokenizer(const json& value, const std::string& where,
                              std::vector<PreTokenizer>* pre_tokenizers) {
  if (value.is_null()) return absl::OkStatus();
  std::string type;
  JsonFields fields = Component(value, where, &type);
  if (type == "Sequence") {
    return ReadSequence(&fields, where, "pretokenizers", [&](const json& part, const auto& at) {
      return ReadPreTokenizer(part, at, pre_tokenizers);
    });
  }
  auto pre_tokenizer = PreTokenizerOf(type, &fields);
  if (!pre_tokenizer && !type.empty()) return Unknown(where, type);
  if (pre_tokenizer) pre_tokenizers->push_back(*std::move(pre_tokenizer));
  return fields.Finish();
}

absl::Status ReadDecoder(const json& value, const std::string& where,
                         std::vector<DecodingStep>* decoders) {
  if (value.is_null()) return absl::OkStatus();
  std::string type;
  JsonFields fields = Component(value, where, &type);
  if (type == "Sequence") {
    return ReadSequence(&fields, where, "decoders", [&](const json& part, const auto& at) {
      return ReadDecoder(part, at, decoders);
    });
  }
  auto decoder = DecoderOf(type, &fields);
  if (!decoder && !type.empty()) return Unknown(where, type);
  if (decoder) decoders->push_back(*std::move(decoder));
  return fields.Finish();
}

absl::Status ReadPostProcessor(const json& value, const std::string& where, TokenizerSpec* spec) {
  if (value.is_null()) return absl::OkStatus();
  std::string type;
  JsonFields fields = Component(value, where, &type);
  if (type == "Sequence") {
    return ReadSequence(&fields, where, "processors", [&](const json& part, const auto& at) {
      return ReadPostProcessor(part, at, spec);
    });
  }
  const auto around = TemplateOf(type, &fields);
  if (!around && !type.empty()) return Unknown(where, type);
  if (around) {  // the later of a sequence stands around the earlier
    spec->prefix.insert(spec->prefix.begin(), around->prefix.begin(), around->prefix.end());
    spec->suffix.insert(spec->suffix.end(), around->suffix.begin(), around->suffix.end());
  }
  return fields.Finish();
}

}  // namespace strake
