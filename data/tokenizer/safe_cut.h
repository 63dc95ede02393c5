// SafeCut: where a text may be cut so that its parts have the tokens of the whole.
#ifndef STRAKE_DATA_TOKENIZER_SAFE_CUT_H_
#define STRAKE_DATA_TOKENIZER_SAFE_CUT_H_

#include <cstddef>

#include "absl/strings/string_view.h"
#include "data/tokenizer/tokenizer_parts.h"

namespace strake {

// Tokenizer::SafeCut(). Looks first for a blank after an ASCII character other than white space.
// There words end in all known patterns; what is on its two sides is normalized by itself; and no
// merge of a model whose words begin with blank marks crosses it. Elsewhere a splitter that knows
// its cuts is asked, if nothing else happens to the text.
size_t SafeCut(const TokenizerParts& parts, absl::string_view text);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_SAFE_CUT_H_
