// Text to tokens and back, between files of any size.
#ifndef STRAKE_TOOLS_TOKENIZING_ENCODE_STREAM_H_
#define STRAKE_TOOLS_TOKENIZING_ENCODE_STREAM_H_

#include "absl/status/status.h"
#include "data/tokenizer/tokenizer.h"

namespace strake {

// Reads text from `input` until it ends, and writes its tokens to `output`, a decimal id a line, in
// order: the same bytes for any number of threads. Memory is some MiB per thread, whatever comes,
// where the tokenizer knows safe cuts. Returns the error of reading or writing.
absl::Status EncodeStream(const Tokenizer& tokenizer, int num_threads, int input, int output);

// Reads decimal ids, separated by blanks or line ends, and writes the bytes of their tokens.
// Returns InvalidArgument, naming the line, for what is no id of the tokenizer.
absl::Status DecodeStream(const Tokenizer& tokenizer, int input, int output);

}  // namespace strake

#endif  // STRAKE_TOOLS_TOKENIZING_ENCODE_STREAM_H_
