#include "data/tokenizer/word_cache.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>

namespace strake {
namespace {

static_assert(std::endian::native == std::endian::little, "ShortWord's masks are little-endian's");
static_assert(sizeof(WordCache::Entry) == 32, "two entries are a line of the processor's cache");

constexpr size_t kLineBytes = 64;

uint32_t HashOf(absl::string_view word) {
  uint64_t hash = word.size();
  for (; word.size() >= 8; word.remove_prefix(8)) {
    uint64_t bytes;
    std::memcpy(&bytes, word.data(), 8);
    hash = (hash ^ bytes) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
  }
  uint64_t bytes = 0;
  std::memcpy(&bytes, word.data(), word.size());
  hash = (hash ^ bytes) * 0xD6E8FEB86659FD93u;
  return static_cast<uint32_t>(hash >> 32);
}

// int32s that hold this many bytes.
size_t Int32sOf(size_t num_bytes) { return (num_bytes + 3) / 4; }

}  // namespace

void WordCache::Free::operator()(Entry* entries) const { std::free(entries); }

WordCache::WordCache(int log2_entries)
    : log2_entries_(log2_entries), shift_(64 - (log2_entries - 1)) {}

void WordCache::BeginUse(uint64_t owner) {
  if (owner == owner_) return;
  owner_ = owner;
  const size_t num_bytes = sizeof(Entry) << log2_entries_;
  if (entries_ == nullptr) {
    auto* memory = static_cast<Entry*>(std::aligned_alloc(kLineBytes, num_bytes));
    if (memory == nullptr) throw std::bad_alloc();
    entries_.reset(memory);
    // Half of them stay free, so that a search ends.
    long_entries_.resize(size_t{1} << std::max(log2_entries_ - 2, 2));
    long_data_.reserve(size_t{8} << log2_entries_);
  }
  // No word has a length of 0, so entries of zeros equal none.
  std::memset(static_cast<void*>(entries_.get()), 0, num_bytes);
  ClearLong();
}

void WordCache::Insert(ShortWord word, absl::Span<const int32_t> tokens) {
  Entry* pair = &entries_[Index(word)];
  // The newer one stands first; the older of two is forgotten.
  pair[1] = pair[0];
  pair[0].word = word;
  pair[0].count = static_cast<uint32_t>(tokens.size());
  std::copy(tokens.begin(), tokens.end(), pair[0].tokens);
}

absl::string_view WordCache::LongWord(const LongEntry& entry) const {
  const int32_t* tokens = long_data_.data() + entry.begin;
  return {reinterpret_cast<const char*>(tokens + entry.num_tokens), entry.num_bytes};
}

size_t WordCache::LongSlot(absl::string_view word, uint32_t hash) const {
  const size_t mask = long_entries_.size() - 1;
  size_t slot = hash & mask;
  for (; long_entries_[slot].num_bytes != 0; slot = (slot + 1) & mask) {
    const LongEntry& entry = long_entries_[slot];
    if (entry.hash == hash && LongWord(entry) == word) break;
  }
  return slot;
}

absl::Span<const int32_t> WordCache::FindLong(absl::string_view word) const {
  const LongEntry& entry = long_entries_[LongSlot(word, HashOf(word))];
  if (entry.num_bytes == 0) return {};
  return {long_data_.data() + entry.begin, entry.num_tokens};
}

void WordCache::ClearLong() {
  std::fill(long_entries_.begin(), long_entries_.end(), LongEntry{});
  long_data_.clear();
  num_long_ = 0;
}

void WordCache::InsertLong(absl::string_view word, absl::Span<const int32_t> tokens) {
  const size_t size = tokens.size() + Int32sOf(word.size());
  const bool is_full = 2 * (num_long_ + 1) > long_entries_.size() ||
                       long_data_.size() + size > long_data_.capacity();
  if (is_full) ClearLong();
  const uint32_t hash = HashOf(word);
  const uint32_t begin = static_cast<uint32_t>(long_data_.size());
  long_data_.insert(long_data_.end(), tokens.begin(), tokens.end());
  long_data_.resize(begin + size);
  std::memcpy(long_data_.data() + begin + tokens.size(), word.data(), word.size());
  long_entries_[LongSlot(word, hash)] = {hash, begin, static_cast<uint16_t>(word.size()),
                                         static_cast<uint16_t>(tokens.size())};
  ++num_long_;
}

}  // namespace strake
