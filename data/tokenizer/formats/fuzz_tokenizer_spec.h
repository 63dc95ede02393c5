// UseSpec: what a reader's fuzz target does with a spec: it must be sound, and serve a text.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_FUZZ_TOKENIZER_SPEC_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_FUZZ_TOKENIZER_SPEC_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/tokenizer_spec.h"
#include "data/tokenizer/word_cache.h"
#include "glog/logging.h"

namespace strake {

// An error is as good as a spec, if it says something.
inline void UseSpec(absl::StatusOr<TokenizerSpec> spec) {
  if (!spec.ok()) {
    CHECK(!spec.status().message().empty());
    return;
  }
  const auto num_tokens = static_cast<int32_t>(spec->tokens.size());
  for (const Merge& merge : spec->merges) {
    CHECK(merge.left >= 0 && merge.left < num_tokens);
    CHECK(merge.right >= 0 && merge.right < num_tokens);
    CHECK(merge.result >= 0 && merge.result < num_tokens);
  }
  for (const AddedToken& token : spec->added) CHECK(token.id >= 0 && token.id < num_tokens);
  const auto tokenizer = Tokenizer::Create(*std::move(spec));
  if (!tokenizer.ok()) return;
  WordCache cache;
  std::vector<int32_t> tokens;
  (*tokenizer)->Encode("The  planks, \xc3\xa9t\xc3\xa9 12345 \xff<left> wordy\n", &cache, &tokens);
  for (const int32_t token : tokens) CHECK(token >= 0 && token < num_tokens) << token;
  (*tokenizer)->Decode(tokens, /*skip_special=*/true);
}

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_FUZZ_TOKENIZER_SPEC_H_
