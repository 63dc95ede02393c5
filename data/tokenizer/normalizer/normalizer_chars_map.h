// CharsMap: SentencePiece's precompiled map of characters.
//
//   uint32 n    bytes of the trie
//   uint32[n/4] a double-array trie (Darts-clone): the text to be replaced to an offset
//   char[]      what it is replaced by, at that offset, up to a byte of 0
//
// At each place of a text the longest entry is replaced; where there is none, a character stays.
// Yata, Oono, Morita, Fuketa, Sumitomo, Aoe, "A compact static double-array keeping character
// codes", 2007.
#ifndef STRAKE_DATA_TOKENIZER_NORMALIZER_NORMALIZER_CHARS_MAP_H_
#define STRAKE_DATA_TOKENIZER_NORMALIZER_NORMALIZER_CHARS_MAP_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/normalizer/normalizer.h"

namespace strake {

// InvalidArgument, saying what is wrong, for a map that ends too early or is not whole.
absl::StatusOr<std::unique_ptr<const NormalizerStep>> MakeCharsMap(absl::string_view content);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_NORMALIZER_NORMALIZER_CHARS_MAP_H_
