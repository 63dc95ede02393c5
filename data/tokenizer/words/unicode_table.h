// The classes of all code points, as unicode.cc reads them. make_unicode_table.py writes them from
// the Unicode Character Database: copyright Unicode, Inc., https://www.unicode.org/license.txt.
#ifndef STRAKE_DATA_TOKENIZER_WORDS_UNICODE_TABLE_H_
#define STRAKE_DATA_TOKENIZER_WORDS_UNICODE_TABLE_H_

#include <cstddef>
#include <cstdint>

namespace strake {

extern const char kUnicodeVersion[];

// Runs of code points of one class, from U+0000 on: 8 times the number of code points, plus the
// number of the class's bit.
extern const uint32_t kClassRuns[];
extern const size_t kNumClassRuns;

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_WORDS_UNICODE_TABLE_H_
