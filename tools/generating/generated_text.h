// GeneratedText: prints what a model generates.
//
//   one prompt        the prompt, and each token's text as it comes; or all token numbers
//   several prompts   each prompt with its continuation, in order, a line of "---" between two
//   json              an object a line for each prompt, in order
#ifndef STRAKE_TOOLS_GENERATING_GENERATED_TEXT_H_
#define STRAKE_TOOLS_GENERATING_GENERATED_TEXT_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "data/tokenizer/tokenizer.h"
#include "models/generator.h"

namespace strake {

// What is continued.
struct Prompt {
  std::string text = {};  // as it was given
  std::vector<int32_t> tokens = {};
};

class GeneratedText {
 public:
  struct Options {
    bool json = false;
    // Shows control characters, which models that have learned little write, as "\xNN".
    bool terminal = false;
  };

  // Without a tokenizer, tokens are numbers. All must outlive this.
  GeneratedText(const std::vector<Prompt>& prompts, const Tokenizer* tokenizer,
                const Options& options, std::ostream* out);

  // Call it before the first token, and End() after the last, or after an error. Returns
  // Unavailable where the reader of `out` is gone, and else the system's error of writing to it.
  absl::Status Begin();
  absl::Status Add(const GeneratedToken& token);
  absl::Status End();

 private:
  // A prompt's continuation.
  struct Row {
    std::vector<StreamDecoder> decoder = {};  // one, where there is a tokenizer
    std::vector<int32_t> tokens = {};
    std::string text = {};
    bool is_complete = false, has_end = false;
  };

  bool Streams() const { return rows_.size() == 1 && !options_.json; }
  std::string PromptText(const Prompt& prompt) const;
  // What the token adds to the row's text.
  std::string TextOf(Row* row, const GeneratedToken& token) const;
  std::string Json(const Prompt& prompt, const Row& row) const;
  // Prints the rows that are complete, and that only complete ones come before.
  void PrintComplete();
  void Print(const std::string& text);

  const std::vector<Prompt>& prompts_;
  const Tokenizer* tokenizer_;
  const Options options_;
  std::ostream* out_;
  std::vector<Row> rows_;
  size_t num_printed_ = 0;
  absl::Status written_;  // the error of the first write that failed
};

}  // namespace strake

#endif  // STRAKE_TOOLS_GENERATING_GENERATED_TEXT_H_
