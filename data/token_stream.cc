#include "data/token_stream.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {

absl::StatusOr<TokenStream> TokenStream::Open(const std::vector<std::string>& paths,
                                              int64_t vocab_size) {
  if (paths.empty()) {
    return absl::InvalidArgumentError("the list of data files is empty; name at least one");
  }
  TokenStream stream;
  stream.begins_.push_back(0);
  for (const std::string& path : paths) {
    STRAKE_ASSIGN_OR_RETURN(TokenFile file, TokenFile::Open(path, vocab_size));
    stream.begins_.push_back(stream.begins_.back() + file.num_tokens());
    stream.files_.push_back(std::move(file));
  }
  return stream;
}

template <typename Visit>
absl::Status TokenStream::VisitParts(int64_t begin, int64_t count, const Visit& visit) const {
  CHECK(begin >= 0 && count >= 0 && count <= num_tokens() - begin)
      << "[token_stream] " << count << " tokens from " << begin << " of " << num_tokens();
  size_t file = std::upper_bound(begins_.begin(), begins_.end(), begin) - begins_.begin() - 1;
  for (int64_t done = 0; done < count; ++file) {
    const int64_t at = begin + done;
    const int64_t part = std::min(count - done, begins_[file + 1] - at);
    STRAKE_RETURN_IF_ERROR(visit(files_[file], at - begins_[file], part, done));
    done += part;
  }
  return absl::OkStatus();
}

absl::Status TokenStream::Read(int64_t begin, int64_t count, int32_t* tokens) const {
  return VisitParts(begin, count,
                    [&](const TokenFile& file, int64_t at, int64_t part, int64_t done) {
                      return file.Read(at, part, tokens + done);
                    });
}

template <typename Visit>
void TokenStream::VisitTokens(int64_t begin, int64_t count, const Visit& visit) const {
  std::array<int32_t, 4096> buffer;
  const auto visit_part = [&](const TokenFile& file, int64_t at, int64_t part, int64_t) {
    for (int64_t i = 0; i < part; i += buffer.size()) {
      const int64_t n = std::min<int64_t>(buffer.size(), part - i);
      file.ReadUnchecked(at + i, n, buffer.data());
      visit(buffer.data(), n);
    }
    return absl::OkStatus();
  };
  CHECK(VisitParts(begin, count, visit_part).ok());
}

Fingerprint TokenStream::AllTokens(ThreadTeam& team) const {
  constexpr int64_t kRowTokens = 1 << 16;
  const uint64_t key = StableHash("tokens");
  Fingerprint sum;
  std::mutex mutex;
  team.ParallelFor((num_tokens() + kRowTokens - 1) / kRowTokens, 1, [&](int64_t row, int64_t end) {
    Fingerprint own;
    for (; row < end; ++row) {
      const int64_t begin = row * kRowTokens;
      FingerprintPlace place = {.key = key, .row = row};
      VisitTokens(begin, std::min(kRowTokens, num_tokens() - begin), [&](int32_t* tokens, int n) {
        // Unsigned: no vocabulary is checked here.
        for (int i = 0; i < n; ++i) tokens[i] = static_cast<int32_t>(uint32_t(tokens[i]) + 1);
        own += FingerprintOfRow(place, tokens, n);
        place.column += n;
      });
    }
    const std::lock_guard lock(mutex);
    sum += own;
  });
  return sum;
}

// FNV-1a over tokens instead of bytes: a change of any single token changes the hash.
uint64_t TokenStream::HashRange(uint64_t hash, int64_t begin, int64_t count) const {
  constexpr uint64_t kPrime = 0x100000001b3ull;
  VisitTokens(begin, count, [&](const int32_t* tokens, int n) {
    for (int i = 0; i < n; ++i) hash = (hash ^ static_cast<uint32_t>(tokens[i])) * kPrime;
  });
  return hash;
}

uint64_t TokenStream::SampledTokens() const {
  constexpr int64_t kNumWindows = 1024;
  constexpr int64_t kWindow = kMaxSampledTokens / kNumWindows;
  const int64_t n = num_tokens();
  const uint64_t hash = 0xcbf29ce484222325ull ^ static_cast<uint64_t>(n);
  if (n <= kMaxSampledTokens) return HashRange(hash, 0, n);
  uint64_t windows = hash;
  const int64_t stride = (n - kWindow) / (kNumWindows - 1);
  for (int64_t i = 0; i < kNumWindows - 1; ++i) {
    windows = HashRange(windows, i * stride, kWindow);
  }
  return HashRange(windows, n - kWindow, kWindow);
}

}  // namespace strake
