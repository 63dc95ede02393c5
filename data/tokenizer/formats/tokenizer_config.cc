#include "data/tokenizer/formats/tokenizer_config.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/added_tokens_json.h"
#include "data/tokenizer/formats/json_fields.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;

constexpr char kOwnFile[] = "/tokenizer_config.json";
constexpr char kAddedFile[] = "/added_tokens.json";
constexpr char kGenerationFile[] = "/generation_config.json";
constexpr char kModelFile[] = "/config.json";

using Text = std::optional<std::string>;

// Nothing where there is no such file.
absl::Status ReadText(const std::string& path, Text* text) {
  absl::StatusOr<std::string> content = ReadFile(path);
  if (absl::IsNotFound(content.status())) return absl::OkStatus();
  if (!content.ok()) return content.status();
  *text = *std::move(content);
  return absl::OkStatus();
}

// An empty object where there is no text.
absl::StatusOr<json> ParseObject(const Text& text, const std::string& path) {
  if (!text.has_value()) return json::object();
  STRAKE_ASSIGN_OR_RETURN(json value, ParseJson(*text, path));
  if (value.is_object()) return value;
  return absl::InvalidArgumentError(absl::StrCat(path, " is ", QuoteJson(value), ", no object"));
}

// A token is its text, or an object with that as its "content".
std::optional<std::string> TokenText(const std::string& key, JsonFields* fields) {
  const json* value = fields->Find(key);
  if (value != nullptr && value->is_object() && value->contains("content")) {
    value = &(*value)["content"];
  }
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  fields->Fail(absl::StrCat("has \"", key, "\": ", QuoteJson(*value), ", which is no token"));
  return std::nullopt;
}

absl::Status AddToken(const std::string& id_text, const json& value, const std::string& where,
                      TokenizerConfig* config) {
  int64_t id;
  if (!absl::SimpleAtoi(id_text, &id)) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, " has ", QuoteText(id_text), " where an id belongs"));
  }
  STRAKE_ASSIGN_OR_RETURN(AddedToken token,
                          ReadAddedToken(value, id, absl::StrCat(where, "[", id_text, "]")));
  config->added.push_back(std::move(token));
  return absl::OkStatus();
}

// Tokens by id, with their flags.
absl::Status ReadAddedTokens(JsonFields* fields, TokenizerConfig* config) {
  const json* tokens = fields->Find("added_tokens_decoder");
  if (tokens == nullptr || !tokens->is_object()) return absl::OkStatus();
  for (const auto& item : tokens->items()) {
    const std::string where = fields->where() + ": added_tokens_decoder";
    STRAKE_RETURN_IF_ERROR(AddToken(item.key(), item.value(), where, config));
  }
  return absl::OkStatus();
}

void ReadSpecialTokens(JsonFields* fields, TokenizerConfig* config) {
  for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
    if (auto text = TokenText(key, fields)) config->special.push_back(*std::move(text));
  }
  const json* more = fields->Find("additional_special_tokens");
  for (const json& token : more != nullptr ? *more : json::array()) {
    if (token.is_string()) config->special.push_back(token.get<std::string>());
  }
}

absl::Status ParseOwnConfig(const Text& text, const std::string& path, TokenizerConfig* config) {
  STRAKE_ASSIGN_OR_RETURN(const json value, ParseObject(text, path));
  JsonFields fields(value, path);
  config->begin_of_text = TokenText("bos_token", &fields);
  config->end_of_text = TokenText("eos_token", &fields);
  if (fields.Find("add_bos_token")) config->add_begin_of_text = fields.Bool("add_bos_token");
  if (fields.Find("add_eos_token")) config->add_end_of_text = fields.Bool("add_eos_token");
  config->tokenizer_class = fields.String("tokenizer_class", "");
  ReadSpecialTokens(&fields, config);
  STRAKE_RETURN_IF_ERROR(ReadAddedTokens(&fields, config));
  // There is much else, of chat templates and of batches.
  for (const auto& item : value.items()) fields.Ignore({item.key()});
  return fields.Finish();
}

// added_tokens.json, of older files: ids by text.
absl::Status ParseOldAddedTokens(const Text& text, const std::string& path,
                                 TokenizerConfig* config) {
  STRAKE_ASSIGN_OR_RETURN(const json value, ParseObject(text, path));
  for (const auto& item : value.items()) {
    const json token = {{"content", item.key()}, {"special", true}};
    STRAKE_RETURN_IF_ERROR(AddToken(QuoteJson(item.value()), token, path, config));
  }
  return absl::OkStatus();
}

// An id, or the first of a list of ids.
std::optional<int64_t> FirstId(const json& value, const char* key) {
  const auto found = value.find(key);
  if (found == value.end()) return std::nullopt;
  const json& id = found->is_array() && !found->empty() ? found->front() : *found;
  if (!id.is_number_unsigned() || id.get<uint64_t>() >= uint64_t{kMaxVocabSize}) {
    return std::nullopt;
  }
  return id.get<int64_t>();
}

absl::Status ParseIds(const Text& text, const std::string& path, TokenizerConfig* config) {
  STRAKE_ASSIGN_OR_RETURN(const json value, ParseObject(text, path));
  if (!config->begin_of_text_id) config->begin_of_text_id = FirstId(value, "bos_token_id");
  if (!config->end_of_text_id) config->end_of_text_id = FirstId(value, "eos_token_id");
  return absl::OkStatus();
}

std::optional<int32_t> Find(const TokenizerSpec& spec, const std::string& text) {
  for (const AddedToken& token : spec.added) {
    if (token.text == text) return token.id;
  }
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.tokens[id] == text) return static_cast<int32_t>(id);
  }
  return std::nullopt;
}

absl::Status SetEnd(const std::optional<std::string>& text, std::optional<int64_t> id,
                    const char* key, const std::string& path, const TokenizerSpec& spec,
                    std::optional<int32_t>* end) {
  if (text && !text->empty()) {
    *end = Find(spec, *text);
    if (*end) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("tokenizer_config.json has \"", key,
                                                   "\": ", QuoteText(*text),
                                                   ", which is no token of ", path));
  }
  const bool is_token = id && *id < static_cast<int64_t>(spec.tokens.size()) &&
                        !spec.tokens[static_cast<size_t>(*id)].empty();
  if (!*end && is_token) *end = static_cast<int32_t>(*id);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& directory) {
  TokenizerConfigTexts texts;
  STRAKE_RETURN_IF_ERROR(ReadText(directory + kOwnFile, &texts.tokenizer_config));
  STRAKE_RETURN_IF_ERROR(ReadText(directory + kAddedFile, &texts.added_tokens));
  STRAKE_RETURN_IF_ERROR(ReadText(directory + kGenerationFile, &texts.generation_config));
  STRAKE_RETURN_IF_ERROR(ReadText(directory + kModelFile, &texts.config));
  return ParseTokenizerConfig(texts, directory);
}

absl::StatusOr<TokenizerConfig> ParseTokenizerConfig(const TokenizerConfigTexts& texts,
                                                     const std::string& directory) {
  TokenizerConfig config;
  STRAKE_RETURN_IF_ERROR(ParseOwnConfig(texts.tokenizer_config, directory + kOwnFile, &config));
  STRAKE_RETURN_IF_ERROR(ParseOldAddedTokens(texts.added_tokens, directory + kAddedFile, &config));
  STRAKE_RETURN_IF_ERROR(ParseIds(texts.generation_config, directory + kGenerationFile, &config));
  STRAKE_RETURN_IF_ERROR(ParseIds(texts.config, directory + kModelFile, &config));
  return config;
}

absl::Status AddConfiguredTokens(const TokenizerConfig& config, const std::string& path,
                                 TokenizerSpec* spec) {
  for (const AddedToken& token : config.added) {
    const auto id = static_cast<size_t>(token.id);
    if (id >= spec->tokens.size()) spec->tokens.resize(id + 1);
    std::string& text = spec->tokens[id];
    const auto added = std::find_if(spec->added.begin(), spec->added.end(),
                                    [&](const AddedToken& other) { return other.id == token.id; });
    if (text == token.text) continue;
    if (!text.empty() && added == spec->added.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer_config.json gives the added token ", QuoteText(token.text),
                       " the id ", token.id, ", which is ", QuoteText(text), "'s in ", path));
    }
    text = token.text;
    if (added == spec->added.end()) {
      spec->added.push_back(token);
    } else {
      *added = token;
    }
  }
  return absl::OkStatus();
}

absl::Status SetEnds(const TokenizerConfig& config, const std::string& path, TokenizerSpec* spec) {
  STRAKE_RETURN_IF_ERROR(SetEnd(config.begin_of_text, config.begin_of_text_id, "bos_token", path,
                                *spec, &spec->begin_of_text));
  return SetEnd(config.end_of_text, config.end_of_text_id, "eos_token", path, *spec,
                &spec->end_of_text);
}

void SetPrefixAndSuffix(const TokenizerConfig& config, TokenizerSpec* spec) {
  if (config.add_begin_of_text) {
    spec->prefix.clear();
    if (*config.add_begin_of_text && spec->begin_of_text) spec->prefix = {*spec->begin_of_text};
  }
  if (config.add_end_of_text) {
    spec->suffix.clear();
    if (*config.add_end_of_text && spec->end_of_text) spec->suffix = {*spec->end_of_text};
  }
}

}  // namespace strake
