// TargetRanges: which tokens of a token file are to be learnt, such as the answers of
// conversations. They lie beside the token file: tokens.bin and tokens.targets.
//
//   "straketr"   int64 version = 1   int64 num_tokens   int64 number n of ranges
//   int64 (begin, end)[n]   uint32 CRC
//
// Little-endian. The CRC-32C is that of all before it.
#ifndef STRAKE_DATA_TARGET_RANGES_H_
#define STRAKE_DATA_TARGET_RANGES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/token_ranges.h"

namespace strake {

struct TargetRanges {
  int64_t num_tokens = 0;  // of the token file
  // Of the tokens that are learnt. Ascending; none is empty or meets the next.
  std::vector<TokenRange> ranges = {};
  bool operator==(const TargetRanges&) const = default;

  // Of the ranges together.
  int64_t num_targets() const;
};

// "a/b.bin" to "a/b.targets".
std::string TargetRangesPath(const std::string& token_file);

// Returns nothing where there is no such file: all tokens are to be learnt. DataLoss, naming it,
// for one that is damaged or does not fit a token file of `num_tokens` tokens.
absl::StatusOr<std::optional<TargetRanges>> ReadTargetRanges(const std::string& token_file,
                                                             int64_t num_tokens);
// The file's bytes to the ranges. `path` is for messages.
absl::StatusOr<TargetRanges> ParseTargetRanges(const std::string& path, absl::string_view content);

// Replaces or creates the file, durably.
absl::Status WriteTargetRanges(const std::string& token_file, const TargetRanges& targets);
std::string TargetRangesBytes(const TargetRanges& targets);

}  // namespace strake

#endif  // STRAKE_DATA_TARGET_RANGES_H_
