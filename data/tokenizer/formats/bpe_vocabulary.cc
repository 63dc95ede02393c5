#include "data/tokenizer/formats/bpe_vocabulary.h"

#include <array>
#include <cstddef>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "data/tokenizer/formats/byte_letters.h"
#include "data/tokenizer/formats/json_fields.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;

// The bytes that letters stand for: nothing where some character is no byte's letter.
std::optional<std::string> BytesOfLetters(absl::string_view letters) {
  constexpr int kNumCodePoints = 0x100 + 68;
  static const auto* const byte_of = [] {
    auto* bytes = new std::array<int, kNumCodePoints>;
    bytes->fill(-1);
    for (int byte = 0; byte < 256; ++byte) (*bytes)[ByteLetterCodePoints()[byte]] = byte;
    return bytes;
  }();
  std::string bytes;
  bytes.reserve(letters.size());
  const char* const end = letters.data() + letters.size();
  for (const char* at = letters.data(); at != end;) {
    const Utf8Char letter = DecodeUtf8(at, end);
    if (letter.num_bytes == 0 || letter.code_point >= kNumCodePoints) return std::nullopt;
    const int byte = (*byte_of)[letter.code_point];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    at += letter.num_bytes;
  }
  return bytes;
}

absl::Status NoTokens(absl::string_view pair, absl::string_view where, absl::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat(where, " is ", QuoteText(pair), ", ", reason));
}

}  // namespace

bool IsTokenId(const json& id) {
  return id.is_number_unsigned() && id.get<uint64_t>() < uint64_t{kMaxVocabSize};
}

absl::StatusOr<BpeVocabulary> BpeVocabulary::Create(const json& vocab, std::string where) {
  if (!vocab.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, " is ", QuoteJson(vocab), ", not an object of ids by token"));
  }
  BpeVocabulary result;
  result.ids_.reserve(vocab.size());
  std::vector<const std::string*> owners;
  for (const auto& item : vocab.items()) {
    const auto error = [&](absl::string_view reason) {
      return absl::InvalidArgumentError(absl::StrCat(where, " gives token ", QuoteText(item.key()),
                                                     " the id ", QuoteJson(item.value()), reason));
    };
    if (!IsTokenId(item.value())) {
      return error(absl::StrCat(", which is no integer from 0 to ", kMaxVocabSize - 1));
    }
    const auto id = item.value().get<size_t>();
    if (id >= owners.size()) owners.resize(id + 1);
    if (owners[id] != nullptr) {
      return error(absl::StrCat(", which token ", QuoteText(*owners[id]), " has too"));
    }
    const auto entry = result.ids_.emplace(item.key(), static_cast<int32_t>(id)).first;
    owners[id] = &entry->first;  // reserve() keeps entries in place
  }
  result.tokens_.resize(owners.size());
  for (size_t id = 0; id < owners.size(); ++id) {
    if (owners[id] != nullptr) result.tokens_[id] = *owners[id];
  }
  return result;
}

std::optional<int32_t> BpeVocabulary::Find(absl::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? std::nullopt : std::make_optional(found->second);
}

absl::Status BpeVocabulary::AddMerge(absl::string_view pair, absl::string_view where) {
  if (absl::StartsWith(pair, "#version")) return absl::OkStatus();
  const size_t blank = pair.find(' ');
  if (blank == absl::string_view::npos || pair.find(' ', blank + 1) != absl::string_view::npos) {
    return NoTokens(pair, where, "not two tokens with a blank between them");
  }
  return AddMerge(pair.substr(0, blank), pair.substr(blank + 1), where);
}

absl::Status BpeVocabulary::AddMerge(absl::string_view left, absl::string_view right,
                                     absl::string_view where) {
  const auto error = [&](absl::string_view token) {
    return NoTokens(absl::StrCat(left, " ", right), where,
                    absl::StrCat("but the vocabulary has no token ", QuoteText(token)));
  };
  const auto left_id = Find(left), right_id = Find(right);
  if (!left_id) return error(left);
  if (!right_id) return error(right);
  const std::string both = absl::StrCat(left, right);
  const auto result = Find(both);
  if (!result) return error(both);
  merges_.push_back({*left_id, *right_id, *result, static_cast<int64_t>(merges_.size())});
  return absl::OkStatus();
}

absl::Status BpeVocabulary::AddToken(AddedToken token, absl::string_view where) {
  if (token.text.empty() || added_ids_.contains(token.id)) return absl::OkStatus();
  const auto error = [&](absl::string_view reason) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, " gives the added token ", QuoteText(token.text), " the id ", token.id, reason));
  };
  if (token.id < 0 || token.id >= kMaxVocabSize) return error(", which is out of range");
  const auto id = static_cast<size_t>(token.id);
  if (const auto other = Find(token.text); other && *other != token.id) {
    return error(absl::StrCat(", but its id is ", *other, " before"));
  }
  if (id >= tokens_.size()) tokens_.resize(id + 1);
  if (!tokens_[id].empty() && tokens_[id] != token.text) {
    return error(absl::StrCat(", which is ", QuoteText(tokens_[id]), "'s"));
  }
  tokens_[id] = token.text;
  ids_.emplace(token.text, token.id);
  added_ids_.insert(token.id);
  added_.push_back(std::move(token));
  return absl::OkStatus();
}

void BpeVocabulary::MoveTo(TokenizerSpec* spec) {
  if (spec->byte_level) {
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (added_ids_.contains(static_cast<int32_t>(id))) continue;
      // Hugging Face's decoder, too, takes tokens of other letters for text.
      if (auto bytes = BytesOfLetters(tokens_[id])) tokens_[id] = *std::move(bytes);
    }
  }
  spec->tokens = std::move(tokens_);
  spec->merges = std::move(merges_);
  spec->added = std::move(added_);
}

}  // namespace strake
