// PreTokenizerChain: what a spec's pre-tokenizers make of a text: words, one after the other.
//
// Where PCRE2 gives up, since an expression that no function of ours knows takes too many steps,
// the piece of text that it was to cut stays whole.
#ifndef STRAKE_DATA_TOKENIZER_PRE_TOKENIZER_H_
#define STRAKE_DATA_TOKENIZER_PRE_TOKENIZER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "data/tokenizer/tokenizer_spec.h"
#include "data/tokenizer/words/splitter.h"

namespace strake {

// Pieces of a text, in order. Some of the text may be in none of them.
struct TextPieces {
  struct Range {
    size_t begin, end;
  };
  absl::string_view text = {};
  std::vector<Range> ranges = {};
  // Holds `text` once a step has changed it.
  std::string changed = {};
  // Whether the first range begins the whole text.
  bool begins_text = true;
};

// Whether a splitter knows where text may be cut.
inline bool KnowsCuts(const Splitter& splitter) { return splitter.SafeCut("a b") == 1; }

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual void Apply(TextPieces* pieces) const = 0;
  // Whether a blank after a character other than white space begins a piece, whatever follows.
  virtual bool cuts_at_blanks() const { return false; }
  // Whether it cuts nothing, and does nothing to a text that begins with a blank.
  virtual bool keeps_blanks() const { return false; }
};

class PreTokenizerChain {
 public:
  // InvalidArgument for an expression that PCRE2 does not take, and for kByteLevel before another.
  static absl::StatusOr<PreTokenizerChain> Create(absl::Span<const PreTokenizer> pre_tokenizers);

  bool empty() const { return splitter_ == nullptr && steps_.empty(); }
  // What comes first, or null.
  const Splitter* splitter() const { return splitter_.get(); }
  // Whether there is a splitter and nothing else.
  bool is_splitter() const { return splitter_ != nullptr && steps_.empty(); }
  // Whether the first step that cuts anything cuts there.
  bool cuts_at_blanks() const;

  // Cuts `text`, of less than 4 GiB.
  void Apply(absl::string_view text, bool begins_text, TextPieces* pieces) const;

 private:
  std::unique_ptr<const Splitter> splitter_;
  std::vector<std::unique_ptr<const PreTokenizerStep>> steps_;
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_PRE_TOKENIZER_H_
