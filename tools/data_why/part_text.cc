#include "tools/data_why/part_text.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"

namespace strake {
namespace {

constexpr int64_t kExcerptTokens = 64;
constexpr size_t kExcerptBytes = 64;

// The text's first characters, and "..." where it goes on.
std::string Shortened(const std::string& text, bool goes_on) {
  size_t end = 0;
  while (end < text.size()) {
    const size_t next = end + CharBytes(absl::string_view(text).substr(end));
    if (next > kExcerptBytes) return text.substr(0, end) + "...";
    end = next;
  }
  return goes_on ? text + "..." : text;
}

// Some tokenizers put a blank before a text, and drop it when they decode.
int64_t NumTrimmed(const Tokenizer& tokenizer, int32_t first_token) {
  const auto decoded =
      static_cast<int64_t>(tokenizer.Decode({&first_token, 1}, /*skip_special=*/true).size());
  return std::max<int64_t>(0, tokenizer.NumBytes(first_token) - decoded);
}

}  // namespace

PartText::PartText(const TrainingData* data, const TokenStream* stream)
    : data_(data),
      stream_(stream),
      bytes_({.read = [stream](int64_t begin, int64_t count,
                               int32_t* tokens) { return stream->Read(begin, count, tokens); },
              .num_bytes = [data](int32_t token) { return data->tokenizer()->NumBytes(token); },
              .num_trimmed =
                  [data](int32_t token) { return NumTrimmed(*data->tokenizer(), token); }}) {}

bool PartText::is_text(const DocumentTokens& part) const {
  return stream_->files()[part.file].encoding() == TokenEncoding::kBytes || data_->is_of_bytes();
}

bool PartText::has_bytes(const DocumentTokens& part) const {
  return part.is_known && (is_text(part) || data_->tokenizer() != nullptr);
}

absl::StatusOr<std::vector<int64_t>> PartText::BytesOf(const DocumentTokens& part) {
  if (!is_text(part)) return bytes_.BytesOf(part.begin, part.tokens);
  std::vector<int64_t> bytes(part.tokens.num_tokens() + 1);
  std::iota(bytes.begin(), bytes.end(), part.tokens.begin - part.begin);
  return bytes;
}

absl::StatusOr<std::vector<int32_t>> PartText::TokensOf(const DocumentTokens& part) const {
  std::vector<int32_t> tokens(part.tokens.num_tokens());
  STRAKE_RETURN_IF_ERROR(stream_->Read(part.tokens.begin, part.tokens.num_tokens(), tokens.data()));
  return tokens;
}

absl::StatusOr<std::string> PartText::Text(const DocumentTokens& part, int64_t begin, int64_t end,
                                           bool goes_on) const {
  const int64_t num_before = begin > part.begin ? 1 : 0;
  std::vector<int32_t> tokens(end - begin), before(num_before);
  STRAKE_RETURN_IF_ERROR(stream_->Read(begin, end - begin, tokens.data()));
  STRAKE_RETURN_IF_ERROR(stream_->Read(begin - num_before, num_before, before.data()));
  const std::string text = Shortened(Printable(data_->ToText(tokens, before)), goes_on);
  return data_->has_text() ? absl::StrCat("\"", text, "\"") : text;
}

absl::StatusOr<std::string> PartText::Excerpt(const DocumentTokens& part) const {
  const int64_t end = std::min(part.tokens.begin + kExcerptTokens, part.tokens.end);
  return Text(part, part.tokens.begin, end, end < part.tokens.end);
}

absl::StatusOr<std::string> PartText::TokenText(const DocumentTokens& part, int64_t token) const {
  const int64_t at = part.tokens.begin + token;
  return Text(part, at, at + 1, /*goes_on=*/false);
}

}  // namespace strake
