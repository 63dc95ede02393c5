#include "data/tokenizer/words/splitter.h"

#include "data/tokenizer/words/pattern_splitter.h"
#include "data/tokenizer/words/pcre2_splitter.h"

namespace strake {

absl::StatusOr<std::unique_ptr<const Splitter>> MakeSplitter(
    absl::Span<const std::string> patterns) {
  if (std::unique_ptr<const Splitter> known = MakePatternSplitter(patterns)) return known;
  return MakePcre2Splitter(patterns);
}

}  // namespace strake
