// ValidTextSplitter: what splitters share. It applies splitter.h's rule of invalid UTF-8.
#ifndef STRAKE_DATA_TOKENIZER_WORDS_VALID_TEXT_SPLITTER_H_
#define STRAKE_DATA_TOKENIZER_WORDS_VALID_TEXT_SPLITTER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/words/splitter.h"

namespace strake {

class ValidTextSplitter : public Splitter {
 public:
  absl::Status Split(absl::string_view text, std::vector<uint32_t>* ends) const final;

 private:
  // Appends the ends of the words of `text`, which is valid and not empty, each plus `offset`.
  virtual absl::Status SplitValid(absl::string_view text, uint32_t offset,
                                  std::vector<uint32_t>* ends) const = 0;
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_WORDS_VALID_TEXT_SPLITTER_H_
