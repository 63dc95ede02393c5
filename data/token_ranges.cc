#include "data/token_ranges.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {

TokenRanges::TokenRanges(const std::vector<TokenRange>& ranges) {
  begins_.push_back(0);
  for (const TokenRange& range : ranges) {
    CHECK(0 <= range.begin && range.begin <= range.end)
        << "[token_ranges] tokens [" << range.begin << ", " << range.end << ")";
    if (range.num_tokens() == 0) continue;
    if (!ranges_.empty() && ranges_.back().end == range.begin) {
      ranges_.back().end = range.end;
      begins_.back() += range.num_tokens();
    } else {
      ranges_.push_back(range);
      begins_.push_back(begins_.back() + range.num_tokens());
    }
  }
}

absl::Status TokenRanges::Read(const TokenStream& stream, int64_t begin, int64_t count,
                               int32_t* tokens) const {
  CHECK(begin >= 0 && count >= 0 && count <= num_tokens() - begin)
      << "[token_ranges] " << count << " tokens from " << begin << " of " << num_tokens();
  size_t range = std::upper_bound(begins_.begin(), begins_.end(), begin) - begins_.begin() - 1;
  for (int64_t done = 0; done < count; ++range) {
    const int64_t at = begin + done;
    const int64_t part = std::min(count - done, begins_[range + 1] - at);
    STRAKE_RETURN_IF_ERROR(
        stream.Read(ranges_[range].begin + at - begins_[range], part, tokens + done));
    done += part;
  }
  return absl::OkStatus();
}

uint64_t TokenRanges::Hash() const {
  uint64_t hash = 0;
  for (const TokenRange& range : ranges_) {
    hash = StableHash(absl::StrCat(hash, " ", range.begin, " ", range.end));
  }
  return hash;
}

}  // namespace strake
