#include "data/tokenizer/normalizer/normalizer_chars_map.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/base/utf8.h"

namespace strake {
namespace {

// A unit of the trie: a node, with the label of the byte that leads to it, or a value.
class Unit {
 public:
  explicit Unit(uint32_t bits) : bits_(bits) {}
  bool has_value() const { return ((bits_ >> 8) & 1) != 0; }
  uint32_t value() const { return bits_ & 0x7FFFFFFF; }
  // The byte; units of values have a high bit too, so that they equal none.
  uint32_t label() const { return bits_ & 0x800000FF; }
  // The distance to the children, by exclusive or.
  uint32_t offset() const { return (bits_ >> 10) << ((bits_ & (1u << 9)) >> 6); }

 private:
  uint32_t bits_;
};

class CharsMap : public NormalizerStep {
 public:
  CharsMap(std::vector<uint32_t> trie, std::string replacements)
      : trie_(std::move(trie)), replacements_(std::move(replacements)) {}

  bool Apply(absl::string_view text, bool /*continues*/, std::string* result) const override {
    result->clear();
    bool changes = false;
    for (size_t i = 0; i < text.size();) {
      absl::string_view replacement;
      size_t size = LongestAt(text.substr(i), &replacement);
      if (size == 0) {
        size = CharBytes(text.substr(i));
        replacement = text.substr(i, size);
      }
      changes = changes || replacement != text.substr(i, size);
      result->append(replacement.data(), replacement.size());
      i += size;
    }
    return changes;
  }

  // An entry may hold a blank after something else.
  bool cuts_at_blanks() const override { return false; }

 private:
  // The number of bytes of the longest entry that begins the text, and its replacement.
  size_t LongestAt(absl::string_view text, absl::string_view* replacement) const {
    size_t longest = 0;
    uint32_t at = Unit(trie_[0]).offset();
    for (size_t i = 0; i < text.size(); ++i) {
      const uint8_t byte = static_cast<uint8_t>(text[i]);
      at ^= byte;
      if (at >= trie_.size() || Unit(trie_[at]).label() != byte) break;
      const bool has_value = Unit(trie_[at]).has_value();
      at ^= Unit(trie_[at]).offset();
      if (has_value && at < trie_.size() && Unit(trie_[at]).value() < replacements_.size()) {
        longest = i + 1;
        *replacement = replacements_.c_str() + Unit(trie_[at]).value();
      }
    }
    return longest;
  }

  std::vector<uint32_t> trie_;
  std::string replacements_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const NormalizerStep>> MakeCharsMap(absl::string_view content) {
  uint32_t size = 0;
  if (content.size() >= sizeof(size)) std::memcpy(&size, content.data(), sizeof(size));
  if (size == 0 || size % sizeof(uint32_t) != 0 || content.size() - sizeof(size) < size) {
    return absl::InvalidArgumentError(absl::StrCat("the precompiled map of characters has ",
                                                   content.size(),
                                                   " bytes and says that its trie has ", size));
  }
  std::vector<uint32_t> trie(size / sizeof(uint32_t));
  std::memcpy(trie.data(), content.data() + sizeof(size), size);
  return std::make_unique<CharsMap>(std::move(trie),
                                    std::string(content.substr(sizeof(size) + size)));
}

}  // namespace strake
