// KnownRanks: what is known of published files of ranks, which do not say it themselves.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_KNOWN_RANKS_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_KNOWN_RANKS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace strake {

struct KnownRanks {
  const char* pattern = nullptr;
  bool nfc = false;  // the model's own tokenizer normalizes text first
  std::vector<std::pair<int64_t, std::string>> special = {};
  const char* begin_of_text = nullptr;  // of the special tokens; null where there is none
  const char* end_of_text = nullptr;
  bool adds_begin_of_text = false;
};

// To add a file, add a row to the table in known_ranks.cc. `sha256` is 64 lower-case digits.
std::optional<KnownRanks> FindKnownRanks(absl::string_view sha256);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_KNOWN_RANKS_H_
