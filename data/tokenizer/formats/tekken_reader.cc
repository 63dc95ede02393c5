#include "data/tokenizer/formats/tekken_reader.h"

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/byte_level_spec.h"
#include "data/tokenizer/formats/json_fields.h"
#include "data/tokenizer/formats/tiktoken_reader.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;

struct TekkenConfig {
  std::string pattern = {}, version = {};
  size_t num_special = 0;
  size_t num_ranks = 0;  // of the vocabulary, which may have more
};

absl::StatusOr<TekkenConfig> ReadConfig(const json& value, const std::string& where) {
  JsonFields fields(value, where);
  TekkenConfig config;
  config.pattern = fields.String("pattern");
  config.version = fields.String("version");
  const int64_t num_tokens = fields.Int("default_vocab_size");
  const int64_t num_special = fields.Int("default_num_special_tokens");
  fields.Ignore({"num_vocab_tokens"});  // those of the file, used or not
  if (num_special < 3 || num_tokens <= num_special || num_tokens > kMaxVocabSize) {
    fields.Fail(absl::StrCat("has \"default_vocab_size\": ", num_tokens,
                             " and \"default_num_special_tokens\": ", num_special,
                             ", which are no such sizes"));
  }
  STRAKE_RETURN_IF_ERROR(fields.Finish());
  config.num_special = static_cast<size_t>(num_special);
  config.num_ranks = static_cast<size_t>(num_tokens - num_special);
  for (const char* known : {"v3", "v7", "v11", "v13", "v15"}) {
    if (config.version == known) return config;
  }
  return absl::InvalidArgumentError(absl::StrCat(where,
                                                 " has \"version\": ", QuoteText(config.version),
                                                 ", which is not v3, v7, v11, v13 or v15"));
}

// A file up to version 7 may lack its list of special tokens.
std::vector<AddedToken> OldSpecialTokens() {
  std::vector<AddedToken> result;
  for (const char* text : {"<unk>",
                           "<s>",
                           "</s>",
                           "[INST]",
                           "[/INST]",
                           "[AVAILABLE_TOOLS]",
                           "[/AVAILABLE_TOOLS]",
                           "[TOOL_RESULTS]",
                           "[/TOOL_RESULTS]",
                           "[TOOL_CALLS]",
                           "[IMG]",
                           "<pad>",
                           "[IMG_BREAK]",
                           "[IMG_END]",
                           "[PREFIX]",
                           "[MIDDLE]",
                           "[SUFFIX]",
                           "[SYSTEM_PROMPT]",
                           "[/SYSTEM_PROMPT]",
                           "[TOOL_CONTENT]"}) {
    result.push_back({static_cast<int32_t>(result.size()), text, /*special=*/true});
  }
  return result;
}

absl::StatusOr<AddedToken> ReadSpecialToken(const json& value, size_t index,
                                            const std::string& where) {
  JsonFields fields(value, where);
  AddedToken token;
  token.id = static_cast<int32_t>(index);
  token.text = fields.String("token_str");
  token.special = fields.Bool("is_control", true);
  if (const int64_t rank = fields.Int("rank"); rank != static_cast<int64_t>(index)) {
    fields.Fail(absl::StrCat("has \"rank\": ", rank, ", where ", index, " belongs"));
  }
  if (token.text.empty()) fields.Fail("has an empty \"token_str\"");
  STRAKE_RETURN_IF_ERROR(fields.Finish());
  return token;
}

absl::StatusOr<std::vector<AddedToken>> ReadSpecialTokens(const json* list,
                                                          const TekkenConfig& config,
                                                          const std::string& where) {
  std::vector<AddedToken> tokens;
  if (list == nullptr && (config.version == "v3" || config.version == "v7")) {
    tokens = OldSpecialTokens();
  } else if (list == nullptr || !list->is_array()) {
    return absl::InvalidArgumentError(where + " is not a list");
  } else {
    for (size_t i = 0; i < list->size(); ++i) {
      STRAKE_ASSIGN_OR_RETURN(tokens.emplace_back(),
                              ReadSpecialToken((*list)[i], i, absl::StrCat(where, "[", i, "]")));
    }
  }
  if (tokens.size() > config.num_special) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, " are ", tokens.size(), ", but ", config.num_special, " have ids"));
  }
  while (tokens.size() < config.num_special) {
    tokens.push_back({static_cast<int32_t>(tokens.size()),
                      absl::StrCat("<SPECIAL_", tokens.size(), ">"), /*special=*/true});
  }
  return tokens;
}

// Not by JsonFields: there are 150,000 of them.
absl::StatusOr<std::string> ReadRankedToken(const json& value, size_t rank,
                                            const std::string& where) {
  const auto error = [&](absl::string_view reason) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, "[", rank, "] is ", QuoteJson(value), ", ", reason));
  };
  const auto no_token = [&] { return error("not a token's \"rank\" and \"token_bytes\""); };
  if (!value.is_object()) return no_token();
  const auto rank_field = value.find("rank"), bytes_field = value.find("token_bytes");
  if (rank_field == value.end() || bytes_field == value.end() ||
      !rank_field->is_number_unsigned() || !bytes_field->is_string()) {
    return no_token();
  }
  if (rank_field->get<uint64_t>() != rank) return error("out of its place");
  std::string token;
  if (!absl::Base64Unescape(bytes_field->get_ref<const std::string&>(), &token) || token.empty()) {
    return error("whose \"token_bytes\" are not in base64");
  }
  return token;
}

absl::StatusOr<std::vector<std::string>> ReadRanks(const json* list, const TekkenConfig& config,
                                                   const std::string& where) {
  if (list == nullptr || !list->is_array() || list->size() < config.num_ranks) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, " is no list of ", config.num_ranks, " tokens or more"));
  }
  std::vector<std::string> tokens(config.num_ranks);
  for (size_t rank = 0; rank < tokens.size(); ++rank) {
    STRAKE_ASSIGN_OR_RETURN(tokens[rank], ReadRankedToken((*list)[rank], rank, where));
  }
  return tokens;
}

void AddSpecialTokens(std::vector<AddedToken> tokens, TokenizerSpec* spec) {
  for (const AddedToken& token : tokens) {
    spec->tokens[static_cast<size_t>(token.id)] = token.text;
    if (token.text == "<s>") spec->begin_of_text = token.id;
    if (token.text == "</s>") spec->end_of_text = token.id;
  }
  if (spec->begin_of_text) spec->prefix = {*spec->begin_of_text};
  spec->added = std::move(tokens);
}

}  // namespace

absl::StatusOr<TokenizerSpec> ReadTekken(const json& file, const std::string& path) {
  JsonFields fields(file, path);
  const json* config_value = fields.Find("config");
  const json* vocab = fields.Find("vocab");
  const json* special = fields.Find("special_tokens");
  fields.Ignore({"image", "multimodal", "audio", "model_settings_builder", "version", "type"});
  if (config_value == nullptr) fields.Fail("has no \"config\"");
  STRAKE_RETURN_IF_ERROR(fields.Finish());
  STRAKE_ASSIGN_OR_RETURN(const TekkenConfig config, ReadConfig(*config_value, path + ": config"));
  STRAKE_ASSIGN_OR_RETURN(std::vector<AddedToken> added,
                          ReadSpecialTokens(special, config, path + ": special_tokens"));
  STRAKE_ASSIGN_OR_RETURN(std::vector<std::string> tokens,
                          ReadRanks(vocab, config, path + ": vocab"));
  TokenizerSpec spec = ByteLevelSpec(config.pattern);
  STRAKE_RETURN_IF_ERROR(
      SetRankedTokens(std::move(tokens), config.num_special, path + ": vocab", &spec));
  AddSpecialTokens(std::move(added), &spec);
  return spec;
}

}  // namespace strake
