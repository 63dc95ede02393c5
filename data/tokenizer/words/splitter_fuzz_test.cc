// Bytes as text: every known pattern's function gives PCRE2's words. Bytes as a pattern: any
// content gives an error, or a splitter whose words make up the text.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/tokenizer/words/pattern_splitter.h"
#include "data/tokenizer/words/pcre2_splitter.h"
#include "data/tokenizer/words/splitter.h"
#include "data/tokenizer/words/unicode_differences.h"
#include "glog/logging.h"

namespace strake {
namespace {

struct Pair {
  std::unique_ptr<const Splitter> known, definition;
};

const std::vector<Pair>& Pairs() {
  static const auto* const pairs = [] {
    auto* made = new std::vector<Pair>;
    for (const std::vector<std::string>& patterns : KnownPatterns()) {
      made->push_back({MakePatternSplitter(patterns), MakePcre2Splitter(patterns).value()});
    }
    return made;
  }();
  return *pairs;
}

void CompareWithPcre2(absl::string_view content) {
  const std::string text = WithoutDifferences(content);
  for (const Pair& pair : Pairs()) {
    std::vector<uint32_t> ours, theirs;
    CHECK(pair.known->Split(text, &ours).ok());
    CHECK(pair.definition->Split(text, &theirs).ok());
    CHECK(ours == theirs);
    const size_t cut = pair.known->SafeCut(text);
    CHECK(cut == 0 || std::binary_search(ours.begin(), ours.end(), cut));
  }
}

void SplitBy(absl::string_view content) {
  const auto splitter = MakeSplitter({std::string(content)});
  if (!splitter.ok()) return;
  const std::string text = "It's 12,345  words\n\n of caf\xC3\xA9 \xE6\xBC\xA2\xFF";
  std::vector<uint32_t> ends;
  if (!(*splitter)->Split(text, &ends).ok()) return;
  CHECK_EQ(ends.back(), text.size());
  for (size_t i = 1; i < ends.size(); ++i) CHECK_LT(ends[i - 1], ends[i]);
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view content(reinterpret_cast<const char*>(data), size);
  strake::CompareWithPcre2(content);
  strake::SplitBy(content);
  return 0;
}
