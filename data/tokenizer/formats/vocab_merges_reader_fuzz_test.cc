// Bytes as a vocabulary, or as the merges of a fixed one: any content gives an error or a sound
// spec.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "core/base/json.h"
#include "data/tokenizer/formats/fuzz_tokenizer_spec.h"
#include "data/tokenizer/formats/vocab_merges_reader.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

void Use(const nlohmann::json& vocab, absl::string_view merges) {
  auto vocabulary = ReadVocabMerges(vocab, "vocab.json", merges, "merges.txt");
  auto spec = SpecOfClass("GPT2Tokenizer");
  CHECK(spec.ok());
  if (!vocabulary.ok()) return;
  vocabulary->MoveTo(&*spec);
  UseSpec(spec);
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto value = strake::ParseJson(text, "vocab.json");
  if (value.ok()) strake::Use(*value, "a b\n");
  static const nlohmann::json vocab = {{"a", 0}, {"b", 1}, {"ab", 2}, {"ba", 3}, {"aba", 4}};
  strake::Use(vocab, text);
  return 0;
}
