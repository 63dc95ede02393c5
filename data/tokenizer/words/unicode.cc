#include "data/tokenizer/words/unicode.h"

#include <algorithm>
#include <map>

#include "data/tokenizer/words/unicode_table.h"
#include "glog/logging.h"

namespace strake {
namespace {

std::vector<CharClass> ExpandRuns() {
  std::vector<CharClass> classes;
  classes.reserve(kMaxCodePoint + 1);
  for (size_t i = 0; i < kNumClassRuns; ++i) {
    const auto char_class = static_cast<CharClass>(1 << (kClassRuns[i] & 7));
    classes.insert(classes.end(), kClassRuns[i] >> 3, char_class);
  }
  CHECK_EQ(classes.size(), kMaxCodePoint + 1);
  return classes;
}

}  // namespace

const CharClasses& CharClasses::Get() {
  static const auto* const classes = new CharClasses;
  return *classes;
}

CharClasses::CharClasses() {
  const std::vector<CharClass> classes = ExpandRuns();
  std::map<std::array<CharClass, 256>, uint8_t> known;
  for (size_t i = 0; i < block_of_.size(); ++i) {
    std::array<CharClass, 256> block;
    std::copy_n(classes.begin() + (i << 8), block.size(), block.begin());
    const auto [entry, is_new] = known.emplace(block, blocks_.size());
    if (is_new) blocks_.push_back(block);
    block_of_[i] = entry->second;
  }
  CHECK_LE(blocks_.size(), 256) << "the index of a block has a byte";
}

std::string UnicodeVersion() { return kUnicodeVersion; }

}  // namespace strake
