// Sha256Hex: what tells one tokenizer, or one file, from another.
#ifndef STRAKE_DATA_TOKENIZER_SHA256_H_
#define STRAKE_DATA_TOKENIZER_SHA256_H_

#include <string>

#include "absl/strings/string_view.h"

namespace strake {

// The SHA-256 of `bytes` as 64 lower-case hexadecimal digits.
std::string Sha256Hex(absl::string_view bytes);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_SHA256_H_
