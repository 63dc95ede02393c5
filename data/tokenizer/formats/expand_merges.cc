#include "data/tokenizer/formats/expand_merges.h"

#include <algorithm>
#include <cstddef>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace strake {
namespace {

// Llama 3's 128,000 tokens have 280,147 merges, and the 248,044 of Qwen 3.6 500,709.
constexpr size_t kMaxMerges = size_t{1} << 22;

// Polynomial hashes modulo 2^64. Those of all parts of a text follow from those of its prefixes.
constexpr uint64_t kBase = 0x9e3779b97f4a7c15;

class PrefixHashes {
 public:
  explicit PrefixHashes(size_t max_size) : powers_(max_size + 1), hashes_(max_size + 1) {
    powers_[0] = 1;
    for (size_t i = 0; i < max_size; ++i) powers_[i + 1] = powers_[i] * kBase;
  }
  void Set(absl::string_view text) {
    for (size_t i = 0; i < text.size(); ++i) {
      hashes_[i + 1] = hashes_[i] * kBase + static_cast<uint8_t>(text[i]) + 1;
    }
  }
  uint64_t Of(size_t begin, size_t end) const {
    return hashes_[end] - hashes_[begin] * powers_[end - begin];
  }

 private:
  std::vector<uint64_t> powers_, hashes_;
};

// Tokens by their hashes: open addressing.
class TokenTable {
 public:
  explicit TokenTable(absl::Span<const std::string> tokens) : tokens_(tokens) {
    size_t size = 16;
    while (size < 2 * tokens.size()) size *= 2;
    slots_.resize(size);
  }
  void Insert(uint64_t hash, int32_t token) {
    size_t slot = SlotOf(hash);
    while (slots_[slot].token >= 0) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = {hash, token};
  }
  std::optional<int32_t> Find(uint64_t hash, absl::string_view text) const {
    for (size_t slot = SlotOf(hash);; slot = (slot + 1) & (slots_.size() - 1)) {
      const Slot& found = slots_[slot];
      if (found.token < 0) return std::nullopt;
      if (found.hash == hash && tokens_[found.token] == text) return found.token;
    }
  }

 private:
  struct Slot {
    uint64_t hash = 0;
    int32_t token = -1;
  };
  size_t SlotOf(uint64_t hash) const {
    // The low bits of a polynomial hash depend on the low bits of the bytes alone.
    return ((hash ^ hash >> 32) * 0xd6e8feb86659fd93 >> 32) & (slots_.size() - 1);
  }

  absl::Span<const std::string> tokens_;
  std::vector<Slot> slots_;
};

size_t LongestToken(absl::Span<const std::string> tokens) {
  size_t longest = 0;
  for (const std::string& token : tokens) longest = std::max(longest, token.size());
  return longest;
}

}  // namespace

absl::StatusOr<std::vector<Merge>> ExpandMerges(absl::Span<const std::string> tokens,
                                                absl::Span<const int64_t> ranks) {
  PrefixHashes hashes(LongestToken(tokens));
  TokenTable table(tokens);
  const auto takes_part = [&](size_t id) { return ranks[id] >= 0 && !tokens[id].empty(); };
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!takes_part(id)) continue;
    hashes.Set(tokens[id]);
    table.Insert(hashes.Of(0, tokens[id].size()), static_cast<int32_t>(id));
  }
  std::vector<Merge> merges;
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!takes_part(id)) continue;
    const absl::string_view token = tokens[id];
    hashes.Set(token);
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = table.Find(hashes.Of(0, cut), token.substr(0, cut));
      if (!left) continue;
      const auto right = table.Find(hashes.Of(cut, token.size()), token.substr(cut));
      if (right) merges.push_back({*left, *right, static_cast<int32_t>(id), ranks[id]});
    }
    if (merges.size() > kMaxMerges) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the vocabulary has more than ", kMaxMerges, " merges"));
    }
  }
  return merges;
}

}  // namespace strake
