// Bytes as a SentencePiece model: any content gives an error or a sound spec.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "data/tokenizer/formats/fuzz_tokenizer_spec.h"
#include "data/tokenizer/formats/sentencepiece_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  strake::UseSpec(strake::ParseSentencePieceModel(text, "fuzz.model"));
  return 0;
}
