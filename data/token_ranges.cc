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

template <typename Visit>
absl::Status TokenRanges::VisitParts(int64_t begin, int64_t count, const Visit& visit) const {
  CHECK(begin >= 0 && count >= 0 && count <= num_tokens() - begin)
      << "[token_ranges] " << count << " tokens from " << begin << " of " << num_tokens();
  size_t range = std::upper_bound(begins_.begin(), begins_.end(), begin) - begins_.begin() - 1;
  for (int64_t done = 0; done < count; ++range) {
    const int64_t at = begin + done;
    const int64_t part = std::min(count - done, begins_[range + 1] - at);
    STRAKE_RETURN_IF_ERROR(visit(ranges_[range].begin + at - begins_[range], part, done));
    done += part;
  }
  return absl::OkStatus();
}

absl::Status TokenRanges::Read(const TokenStream& stream, int64_t begin, int64_t count,
                               int32_t* tokens) const {
  return VisitParts(begin, count, [&](int64_t at, int64_t part, int64_t done) {
    return stream.Read(at, part, tokens + done);
  });
}

void TokenRanges::Locate(int64_t begin, int64_t count, std::vector<TokenRange>* ranges) const {
  const auto add = [&](int64_t at, int64_t part, int64_t) {
    if (!ranges->empty() && ranges->back().end == at) {
      ranges->back().end += part;
    } else {
      ranges->push_back({at, at + part});
    }
    return absl::OkStatus();
  };
  CHECK(VisitParts(begin, count, add).ok());
}

uint64_t TokenRanges::Hash() const {
  uint64_t hash = 0;
  for (const TokenRange& range : ranges_) {
    hash = StableHash(absl::StrCat(hash, " ", range.begin, " ", range.end));
  }
  return hash;
}

TokenRanges Without(const TokenRanges& ranges, const std::vector<TokenRange>& cut) {
  std::vector<TokenRange> rest;
  size_t next = 0;  // of `cut`
  for (const TokenRange& range : ranges.ranges()) {
    int64_t begin = range.begin;
    while (next < cut.size() && cut[next].end <= begin) ++next;
    // The last one may go on in the next range.
    for (size_t i = next; i < cut.size() && cut[i].begin < range.end; ++i) {
      if (cut[i].begin > begin) rest.push_back({begin, cut[i].begin});
      begin = std::max(begin, std::min(cut[i].end, range.end));
    }
    rest.push_back({begin, range.end});
  }
  return TokenRanges(rest);
}

}  // namespace strake
