// Encodes a text once for each line of standard input, and writes the seconds and the number of
// tokens: what tests/tokenizer_speed.py calls in turn with other libraries.
//
//   tokenizer_speed TOKENIZER TEXT
#include <chrono>
#include <iostream>
#include <string>
#include <vector>

#include "core/base/read_file.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr int64_t kMaxTextBytes = int64_t{1} << 30;

size_t EncodeAll(const Tokenizer& tokenizer, const std::string& text) {
  WordCache cache;
  std::vector<int32_t> tokens;
  tokenizer.Encode(text, &cache, &tokens);
  return tokens.size();
}

int Run(const std::string& path, const std::string& text_path) {
  const auto tokenizer = OpenTokenizer(path, {});
  CHECK(tokenizer.ok()) << tokenizer.status();
  const auto text = ReadFile(text_path, kMaxTextBytes);
  CHECK(text.ok()) << text.status();
  for (std::string line; std::getline(std::cin, line);) {
    const auto begin = std::chrono::steady_clock::now();
    const size_t num_tokens = EncodeAll(**tokenizer, *text);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    std::cout << seconds.count() << " " << num_tokens << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) {
  CHECK_EQ(argc, 3) << "usage: tokenizer_speed TOKENIZER TEXT";
  return strake::Run(argv[1], argv[2]);
}
