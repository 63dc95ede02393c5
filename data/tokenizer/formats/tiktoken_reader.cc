#include "data/tokenizer/formats/tiktoken_reader.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/name_error.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/byte_level_spec.h"
#include "data/tokenizer/formats/expand_merges.h"
#include "data/tokenizer/formats/known_ranks.h"
#include "data/tokenizer/sha256.h"

namespace strake {
namespace {

bool IsBase64(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '+' || c == '/' || c == '=';
  });
}

// Removes the first line of a text and returns it without its end.
absl::string_view TakeLine(absl::string_view* text) {
  const size_t end = std::min(text->find('\n'), text->size());
  absl::string_view line = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  if (absl::EndsWith(line, "\r")) line.remove_suffix(1);
  return line;
}

// Whisper's ranks have "=" for an empty token, whose rank no other token has.
constexpr absl::string_view kEmptyToken = "=";

struct RankedToken {
  std::string token = {};
  int64_t rank = 0;
};

std::optional<RankedToken> ParseLine(absl::string_view line) {
  const size_t blank = line.find(' ');
  RankedToken result;
  if (blank == absl::string_view::npos || !absl::SimpleAtoi(line.substr(blank + 1), &result.rank)) {
    return std::nullopt;
  }
  const absl::string_view token = line.substr(0, blank);
  if (token == kEmptyToken) return result;
  if (!IsBase64(token) || !absl::Base64Unescape(token, &result.token) || result.token.empty()) {
    return std::nullopt;
  }
  return result;
}

// Tokens by rank.
absl::StatusOr<std::vector<std::string>> ParseLines(absl::string_view text,
                                                    const std::string& path) {
  std::vector<std::string> tokens;
  for (int64_t number = 1; !text.empty(); ++number) {
    const absl::string_view line = TakeLine(&text);
    if (line.empty()) continue;
    const auto error = [&](absl::string_view reason) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", number, ": ", reason));
    };
    auto ranked = ParseLine(line);
    if (!ranked) return error("is no token in base64 with its rank");
    if (ranked->rank < 0 || ranked->rank >= kMaxVocabSize) {
      return error(absl::StrCat("has the rank ", ranked->rank, ", which is not from 0 to ",
                                kMaxVocabSize - 1));
    }
    const auto rank = static_cast<size_t>(ranked->rank);
    if (rank >= tokens.size()) tokens.resize(rank + 1);
    if (!tokens[rank].empty()) return error(absl::StrCat("has the rank ", rank, " once more"));
    tokens[rank] = std::move(ranked->token);
  }
  return tokens;
}

absl::Status CheckTokens(const std::vector<std::string>& tokens, const std::string& where) {
  absl::flat_hash_set<absl::string_view> seen;
  seen.reserve(tokens.size());
  for (size_t rank = 0; rank < tokens.size(); ++rank) {
    if (tokens[rank].empty() || seen.insert(tokens[rank]).second) continue;
    return absl::InvalidArgumentError(absl::StrCat(where, ": has the token of rank ", rank, ", \"",
                                                   absl::CHexEscape(tokens[rank]),
                                                   "\", once more"));
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (seen.contains(std::string(1, static_cast<char>(byte)))) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: has no token for the byte 0x%02X", where, byte));
  }
  return absl::OkStatus();
}

absl::Status AddSpecials(const KnownRanks& known, const std::string& path, TokenizerSpec* spec) {
  for (const auto& [id, text] : known.special) {
    const auto index = static_cast<size_t>(id);
    if (index >= spec->tokens.size()) spec->tokens.resize(index + 1);
    if (!spec->tokens[index].empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": has a token of rank ", id, ", the id of ", text));
    }
    spec->tokens[index] = text;
    spec->added.push_back({static_cast<int32_t>(id), text, /*special=*/true});
    if (known.begin_of_text != nullptr && text == known.begin_of_text) {
      spec->begin_of_text = static_cast<int32_t>(id);
      if (known.adds_begin_of_text) spec->prefix = {static_cast<int32_t>(id)};
    }
    if (known.end_of_text != nullptr && text == known.end_of_text) {
      spec->end_of_text = static_cast<int32_t>(id);
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool IsTiktokenRanks(absl::string_view text) {
  // A line may not be longer than some token: other formats have no line ends for megabytes.
  absl::string_view start = text.substr(0, 4096);
  return ParseLine(TakeLine(&start)).has_value();
}

absl::Status SetRankedTokens(std::vector<std::string> tokens, size_t first_id,
                             const std::string& where, TokenizerSpec* spec) {
  STRAKE_RETURN_IF_ERROR(CheckTokens(tokens, where));
  std::vector<int64_t> ranks(tokens.size());
  for (size_t rank = 0; rank < ranks.size(); ++rank) ranks[rank] = static_cast<int64_t>(rank);
  STRAKE_ASSIGN_OR_RETURN(std::vector<Merge> merges, NameError(where, ExpandMerges(tokens, ranks)));
  const auto offset = static_cast<int32_t>(first_id);
  for (Merge& merge : merges) {
    merge.left += offset;
    merge.right += offset;
    merge.result += offset;
  }
  tokens.insert(tokens.begin(), first_id, "");
  spec->tokens = std::move(tokens);
  spec->merges = std::move(merges);
  spec->whole_words = true;
  return absl::OkStatus();
}

absl::StatusOr<TokenizerSpec> ParseTiktokenRanks(absl::string_view text, const std::string& path,
                                                 const std::string& pattern) {
  STRAKE_ASSIGN_OR_RETURN(std::vector<std::string> tokens, ParseLines(text, path));
  const std::string sha256 = Sha256Hex(text);
  const std::optional<KnownRanks> known = FindKnownRanks(sha256);
  if (!known && pattern.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": such a file does not say how to cut a text into words, and this one (SHA-256 ",
        sha256, ") is not among those that Strake knows: give its regular expression"));
  }
  TokenizerSpec spec = ByteLevelSpec(pattern.empty() ? known->pattern : pattern);
  STRAKE_RETURN_IF_ERROR(SetRankedTokens(std::move(tokens), 0, path, &spec));
  if (!known) return spec;
  if (known->nfc) spec.normalizers.push_back({Normalizer::Kind::kNfc});
  STRAKE_RETURN_IF_ERROR(AddSpecials(*known, path, &spec));
  return spec;
}

}  // namespace strake
