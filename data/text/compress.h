// Gzip and Zstd for tests: a text as one compressed stream.
#ifndef STRAKE_DATA_TEXT_COMPRESS_H_
#define STRAKE_DATA_TEXT_COMPRESS_H_

#include <string>

namespace strake::testing {

std::string Gzip(const std::string& text);
std::string Zstd(const std::string& text);

}  // namespace strake::testing

#endif  // STRAKE_DATA_TEXT_COMPRESS_H_
