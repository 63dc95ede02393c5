// TrainTokenizer: a tokenizer's files from the texts that flags name.
#ifndef STRAKE_TOOLS_TOKENIZING_TRAIN_TOKENIZER_H_
#define STRAKE_TOOLS_TOKENIZING_TRAIN_TOKENIZER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace strake {

// Members are named like their flags.
struct TrainTokenizerConfig {
  std::string train_data = {};
  std::string text_field = "text";
  std::string tokenizer_pattern = {};
  std::string special_tokens = "<|endoftext|>";
  std::string out = {};
  int64_t vocab_size = 0;
  int64_t min_frequency = 1;
  int64_t threads = 1;
  bool quiet = false;
};

// Writes tokenizer.json and tokenizer_config.json into the folder `out`, which must not hold a
// tokenizer yet. Prints progress and the result on stdout. An error names the flag.
absl::Status TrainTokenizer(const TrainTokenizerConfig& config);

}  // namespace strake

#endif  // STRAKE_TOOLS_TOKENIZING_TRAIN_TOKENIZER_H_
