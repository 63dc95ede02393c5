#include "tools/data_why/part_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"

namespace strake {
namespace {

constexpr int64_t kExcerptTokens = 64;
constexpr size_t kExcerptBytes = 64;
constexpr int64_t kTokensAtATime = 1 << 16;

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

}  // namespace

bool PartText::is_text(const DocumentTokens& part) const {
  return stream_->files()[part.file].encoding() == TokenEncoding::kBytes || data_->is_of_bytes();
}

bool PartText::has_bytes(const DocumentTokens& part) const {
  return part.is_known && (is_text(part) || data_->tokenizer() != nullptr);
}

int64_t PartText::NumBytes(const DocumentTokens& part, int32_t token) const {
  return is_text(part) ? 1 : data_->tokenizer()->NumBytes(token);
}

// Some tokenizers put a blank before a text, and drop it when they decode.
int64_t PartText::NumTrimmed(int32_t first_token) const {
  const Tokenizer& tokenizer = *data_->tokenizer();
  const auto decoded =
      static_cast<int64_t>(tokenizer.Decode({&first_token, 1}, /*skip_special=*/true).size());
  return std::max<int64_t>(0, tokenizer.NumBytes(first_token) - decoded);
}

absl::StatusOr<std::vector<int64_t>> PartText::BytesOf(const DocumentTokens& part) const {
  std::vector<int64_t> bytes;
  std::vector<int32_t> tokens;
  int64_t num_bytes = 0, trimmed = 0;
  for (int64_t begin = part.begin; begin < part.tokens.end; begin += kTokensAtATime) {
    tokens.resize(std::min(kTokensAtATime, part.tokens.end - begin));
    STRAKE_RETURN_IF_ERROR(
        stream_->Read(begin, static_cast<int64_t>(tokens.size()), tokens.data()));
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (begin + static_cast<int64_t>(i) >= part.tokens.begin) {
        bytes.push_back(std::max<int64_t>(0, num_bytes - trimmed));
      }
      const int64_t length = NumBytes(part, tokens[i]);
      if (num_bytes == 0 && length > 0 && !is_text(part)) trimmed = NumTrimmed(tokens[i]);
      num_bytes += length;
    }
  }
  bytes.push_back(std::max<int64_t>(0, num_bytes - trimmed));
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
