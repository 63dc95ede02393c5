#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "core/base/utf8.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/tokenizer_parts.h"

namespace strake {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

// How many bytes at the end may become a character with what follows.
size_t UnfinishedBytes(absl::string_view text) {
  for (size_t size = std::min<size_t>(3, text.size()); size > 0; --size) {
    const absl::string_view end = text.substr(text.size() - size);
    if (BegunCharBytes(end) == size && size < Utf8Bytes(end[0])) return size;
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
    text.remove_prefix(BegunCharBytes(text));
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
