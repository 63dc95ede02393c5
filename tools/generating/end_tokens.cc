#include "tools/generating/end_tokens.h"

#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr char kMember[] = "eos_token_id";

using Tokens = std::optional<std::vector<int64_t>>;

// Nothing where the file does not exist, or does not say it.
absl::StatusOr<Tokens> TokensOfFile(const std::string& path) {
  const auto text = ReadFile(path);
  if (absl::IsNotFound(text.status())) return Tokens();
  if (!text.ok()) return text.status();
  return ParseEndTokens(*text, path);
}

}  // namespace

absl::StatusOr<std::optional<std::vector<int64_t>>> ParseEndTokens(absl::string_view text,
                                                                   const std::string& path) {
  STRAKE_ASSIGN_OR_RETURN(const nlohmann::json config, ParseJson(text, path));
  const auto member = config.is_object() ? config.find(kMember) : config.end();
  if (member == config.end() || member->is_null()) return Tokens();
  const nlohmann::json list = member->is_array() ? *member : nlohmann::json::array({*member});
  std::vector<int64_t> tokens;
  for (const nlohmann::json& token : list) {
    if (!token.is_number_integer()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": ", kMember, " is ", QuoteJson(*member),
                       "; it must be a token's number, or a list of them"));
    }
    tokens.push_back(token.get<int64_t>());
  }
  return tokens;
}

absl::StatusOr<std::vector<int32_t>> ReadEndTokens(const std::string& directory,
                                                   const Tokenizer* tokenizer, int64_t vocab_size) {
  Tokens tokens;
  for (const char* file : {"/generation_config.json", "/config.json"}) {
    if (tokens.has_value()) break;
    STRAKE_ASSIGN_OR_RETURN(tokens, TokensOfFile(directory + file));
  }
  if (!tokens.has_value() && tokenizer != nullptr && tokenizer->spec().end_of_text.has_value()) {
    tokens = {{*tokenizer->spec().end_of_text}};
  }
  std::vector<int32_t> ends;
  for (const int64_t token : tokens.value_or(std::vector<int64_t>())) {
    if (0 <= token && token < vocab_size) ends.push_back(static_cast<int32_t>(token));
  }
  return ends;
}

}  // namespace strake
