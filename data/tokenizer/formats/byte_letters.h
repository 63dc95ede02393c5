// ByteLetters: the 256 letters that stand for bytes in the files of byte-level vocabularies.
//
// GPT-2 chose them so that no token holds a blank or a control character: a byte that Latin-1
// prints is itself, and the others are the code points from 256 on, in order.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_BYTE_LETTERS_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_BYTE_LETTERS_H_

#include <array>
#include <string>

#include "absl/strings/string_view.h"

namespace strake {

// The code point of each byte's letter.
const std::array<int, 256>& ByteLetterCodePoints();
// The bytes in ascending order of their letters, which is the order of GPT-2's first 256 tokens.
const std::array<unsigned char, 256>& BytesByLetter();
// The letters of `bytes`, in UTF-8.
std::string ByteLetters(absl::string_view bytes);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_BYTE_LETTERS_H_
