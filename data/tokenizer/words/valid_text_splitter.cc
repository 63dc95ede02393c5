#include "data/tokenizer/words/valid_text_splitter.h"

#include <algorithm>
#include <limits>

#include "core/base/utf8.h"
#include "glog/logging.h"

namespace strake {
namespace {

// The blanks that tiktoken means when it takes several words back.
bool IsBlank(absl::string_view word) {
  return std::all_of(word.begin(), word.end(),
                     [](char c) { return c == ' ' || c == '\n' || c == '\t'; });
}

// The ends of a text's words; those from `first` on are its own.
class Words {
 public:
  Words(absl::string_view text, std::vector<uint32_t>* ends)
      : text_(text), first_(ends->size()), ends_(ends) {}

  // Extends the last word to `end`. If it is blank, all blank ones before it become part of it.
  void ExtendLast(size_t end) {
    bool is_blank = !empty() && IsBlank(last());
    if (!empty()) ends_->pop_back();
    while (is_blank && !empty() && (is_blank = IsBlank(last()))) ends_->pop_back();
    ends_->push_back(end);
  }
  void Clear() { ends_->resize(first_); }

 private:
  bool empty() const { return ends_->size() == first_; }
  absl::string_view last() const {
    const size_t begin = ends_->size() == first_ + 1 ? 0 : ends_->end()[-2];
    return text_.substr(begin, ends_->back() - begin);
  }

  absl::string_view text_;
  size_t first_;
  std::vector<uint32_t>* ends_;
};

}  // namespace

absl::Status ValidTextSplitter::Split(absl::string_view text, std::vector<uint32_t>* ends) const {
  CHECK_LE(text.size(), std::numeric_limits<uint32_t>::max()) << "split longer texts in parts";
  Words words(text, ends);
  for (size_t begin = 0; begin < text.size();) {
    const size_t num_valid = ValidUtf8Prefix(text.substr(begin));
    if (num_valid > 0) {
      if (absl::Status s = SplitValid(text.substr(begin, num_valid), begin, ends); !s.ok()) {
        words.Clear();
        return s;
      }
    }
    begin += num_valid;
    if (begin == text.size()) break;
    begin += InvalidUtf8Prefix(text.substr(begin));
    words.ExtendLast(begin);
  }
  return absl::OkStatus();
}

}  // namespace strake
