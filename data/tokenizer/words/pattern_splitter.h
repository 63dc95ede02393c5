// Known patterns, each as a function that finds a word's end, equal to what PCRE2 matches.
#ifndef STRAKE_DATA_TOKENIZER_WORDS_PATTERN_SPLITTER_H_
#define STRAKE_DATA_TOKENIZER_WORDS_PATTERN_SPLITTER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "data/tokenizer/words/splitter.h"

namespace strake {

// The splitter of a known sequence of patterns, or null.
std::unique_ptr<const Splitter> MakePatternSplitter(absl::Span<const std::string> patterns);

// Every sequence that is known, in each of its spellings.
std::vector<std::vector<std::string>> KnownPatterns();

// A pattern with "\\r" and "\\n" for the characters themselves, which some files have.
std::string WithEscapedLineEnds(const std::string& pattern);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_WORDS_PATTERN_SPLITTER_H_
