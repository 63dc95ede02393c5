// Bytes as a token file: any content gives an error, or tokens that are all in the vocabulary.
#include <cstdint>
#include <string>
#include <vector>

#include "data/token_file.h"
#include "glog/logging.h"

namespace strake {
namespace {

void ParseAs(const std::string& path, absl::string_view content, int64_t vocab_size) {
  const absl::StatusOr<TokenFile> file = TokenFile::Parse(path, content, vocab_size);
  if (!file.ok()) return;
  CHECK_GE(file->num_tokens(), 1);
  std::vector<int32_t> tokens(file->num_tokens());
  CHECK(file->Read(0, file->num_tokens(), tokens.data()).ok());
  for (const int32_t token : tokens) CHECK(token >= 0 && token < vocab_size) << token;
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view content(reinterpret_cast<const char*>(data), size);
  for (const int64_t vocab_size : {100, 50257, 128256}) {
    strake::ParseAs("fuzz.bin", content, vocab_size);
    strake::ParseAs("fuzz.txt", content, vocab_size);
  }
  return 0;
}
