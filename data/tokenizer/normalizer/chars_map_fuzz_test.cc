// Bytes as SentencePiece's precompiled map: any content gives an error, or a normalizer that ends.
#include <cstdint>
#include <string>

#include "data/tokenizer/normalizer/normalizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string content(reinterpret_cast<const char*>(data), size);
  const strake::Normalizer step = {.kind = strake::Normalizer::Kind::kCharsMap, .content = content};
  const auto chain = strake::NormalizerChain::Create({step});
  if (!chain.ok()) return 0;
  std::string buffer;
  chain->Apply("a text of some length \xE2\x96\x81\xFF", /*continues=*/false, &buffer);
  chain->Apply(content, /*continues=*/true, &buffer);
  return 0;
}
