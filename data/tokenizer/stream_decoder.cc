#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/tokenizer_parts.h"
#include "data/tokenizer/words/unicode.h"

namespace strake {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

struct ByteRange {
  uint8_t first, last;
  bool Has(char c) const {
    const uint8_t byte = static_cast<uint8_t>(c);
    return byte >= first && byte <= last;
  }
};

// The bytes that may come second: Unicode's table 3-7.
ByteRange SecondBytes(uint8_t lead) {
  switch (lead) {
    case 0xE0:
      return {0xA0, 0xBF};
    case 0xED:
      return {0x80, 0x9F};
    case 0xF0:
      return {0x90, 0xBF};
    case 0xF4:
      return {0x80, 0x8F};
    default:
      return {0x80, 0xBF};
  }
}

int CharBytes(uint8_t lead) {
  if (lead < 0xC2 || lead > 0xF4) return 1;
  return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// How many bytes at the beginning are those of one character, which need not be complete.
size_t BegunBytes(absl::string_view text) {
  const uint8_t lead = static_cast<uint8_t>(text[0]);
  const size_t wanted = std::min<size_t>(CharBytes(lead), text.size());
  size_t size = 1;
  if (size < wanted && SecondBytes(lead).Has(text[1])) ++size;
  while (size > 1 && size < wanted && ByteRange{0x80, 0xBF}.Has(text[size])) ++size;
  return size;
}

// How many bytes at the end may become a character with what follows.
size_t UnfinishedBytes(absl::string_view text) {
  for (size_t size = std::min<size_t>(3, text.size()); size > 0; --size) {
    const absl::string_view end = text.substr(text.size() - size);
    const uint8_t lead = static_cast<uint8_t>(end[0]);
    if (BegunBytes(end) == size && size < CharBytes(lead)) return size;
  }
  return 0;
}

// The text with what is no character as U+FFFD, once for the bytes of each that was begun.
std::string Printable(absl::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t valid = ValidUtf8Prefix(text);
    result.append(text.data(), valid);
    text.remove_prefix(valid);
    if (text.empty()) break;
    result += kReplacement;
    text.remove_prefix(BegunBytes(text));
  }
  return result;
}

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer* tokenizer, bool skip_special)
    : tokenizer_(tokenizer),
      skip_special_(skip_special),
      trims_left_(tokenizer->parts_->decoder.trim_begin().count) {}

// Removes what is trimmed at the beginning. Returns whether that may go on with what follows.
bool StreamDecoder::TrimBegin() {
  const std::string& content = tokenizer_->parts_->decoder.trim_begin().content;
  while (trims_left_ > 0 && absl::string_view(text_).substr(0, content.size()) == content) {
    text_.erase(0, content.size());
    --trims_left_;
  }
  const bool may_go_on =
      trims_left_ > 0 && absl::string_view(content).substr(0, text_.size()) == text_;
  if (!may_go_on) trims_left_ = 0;
  return may_go_on;
}

// How many bytes at the end are trimmed if the text ends here.
size_t StreamDecoder::TrimmedEnd() const {
  const auto& trim = tokenizer_->parts_->decoder.trim_end();
  absl::string_view rest = text_;
  for (int64_t i = 0; i < trim.count && absl::EndsWith(rest, trim.content); ++i) {
    rest.remove_suffix(trim.content.size());
  }
  return text_.size() - rest.size();
}

std::string StreamDecoder::Add(int32_t token) {
  if (skip_special_ && tokenizer_->IsSpecial(token)) return {};
  const absl::string_view bytes = tokenizer_->parts_->decoder.Text(token, is_first_);
  is_first_ = false;
  text_.append(bytes.data(), bytes.size());
  if (TrimBegin()) return {};
  const size_t kept = std::max(UnfinishedBytes(text_), TrimmedEnd());
  const std::string result = Printable(absl::string_view(text_).substr(0, text_.size() - kept));
  text_.erase(0, text_.size() - kept);
  return result;
}

std::string StreamDecoder::End() {
  text_.resize(text_.size() - TrimmedEnd());
  const std::string result = Printable(text_);
  text_.clear();
  return result;
}

}  // namespace strake
