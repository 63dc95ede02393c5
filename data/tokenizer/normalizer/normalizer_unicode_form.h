// Unicode's normalization forms, by utf8proc's tables (Unicode Standard Annex 15).
//
// With utf8proc 2.8 these are Unicode 15's. Hugging Face's tokenizers 0.23 has Unicode 9's, so it
// takes some 120 combining marks that are younger for characters of their own, and leaves 170
// characters as they are that NFKC and NFKD replace. Python's unicodedata has its Unicode's.
//
// Only what may change is given to the definition: stretches that begin with the last character
// before which a text may be cut.
#ifndef STRAKE_DATA_TOKENIZER_NORMALIZER_NORMALIZER_UNICODE_FORM_H_
#define STRAKE_DATA_TOKENIZER_NORMALIZER_NORMALIZER_UNICODE_FORM_H_

#include <memory>

#include "data/tokenizer/normalizer/normalizer.h"

namespace strake {

// Of kNfc, kNfd, kNfkc, kNfkd.
std::unique_ptr<const NormalizerStep> MakeUnicodeForm(Normalizer::Kind form);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_NORMALIZER_NORMALIZER_UNICODE_FORM_H_
