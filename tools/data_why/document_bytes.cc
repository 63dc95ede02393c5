#include "tools/data_why/document_bytes.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace strake {

absl::StatusOr<std::vector<int64_t>> DocumentBytes::BytesOf(int64_t document,
                                                            const TokenRange& range) {
  Counted& counted = counted_[document];
  size_t piece =
      std::min<size_t>((range.begin - document) / kTokensAtATime, counted.bytes.size() - 1);
  int64_t num_bytes = counted.bytes[piece];
  std::vector<int64_t> bytes;
  std::vector<int32_t> tokens;
  for (int64_t begin = document + static_cast<int64_t>(piece) * kTokensAtATime; begin < range.end;
       begin += kTokensAtATime) {
    tokens.resize(std::min(kTokensAtATime, range.end - begin));
    const auto count = static_cast<int64_t>(tokens.size());
    STRAKE_RETURN_IF_ERROR(tokens_.read(begin, count, tokens.data()));
    for (int64_t i = 0; i < count; ++i) {
      if (begin + i >= range.begin) {
        bytes.push_back(std::max<int64_t>(0, num_bytes - counted.trimmed));
      }
      const int64_t length = tokens_.num_bytes(tokens[i]);
      if (num_bytes == 0 && length > 0) counted.trimmed = tokens_.num_trimmed(tokens[i]);
      num_bytes += length;
    }
    ++piece;
    if (count == kTokensAtATime && piece == counted.bytes.size()) {
      counted.bytes.push_back(num_bytes);
    }
  }
  bytes.push_back(std::max<int64_t>(0, num_bytes - counted.trimmed));
  return bytes;
}

}  // namespace strake
