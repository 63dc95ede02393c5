// TrainBpeReference: the definition of TrainBpe(), which counts all pairs again for each merge.
#ifndef STRAKE_DATA_TOKENIZER_TRAINING_BPE_TRAINER_REFERENCE_H_
#define STRAKE_DATA_TOKENIZER_TRAINING_BPE_TRAINER_REFERENCE_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "data/tokenizer/formats/byte_letters.h"
#include "data/tokenizer/training/bpe_trainer.h"

namespace strake {

namespace bpe_reference {

using TokenPair = std::pair<int32_t, int32_t>;
using Words = std::vector<std::vector<int32_t>>;

// Merges the pair in a word, from left to right.
inline void MergeInWord(TokenPair pair, int32_t joined, std::vector<int32_t>* word) {
  std::vector<int32_t> merged;
  for (size_t i = 0; i < word->size(); ++i) {
    const bool here = i + 1 < word->size() && TokenPair((*word)[i], (*word)[i + 1]) == pair;
    merged.push_back(here ? joined : (*word)[i]);
    i += here;
  }
  *word = std::move(merged);
}

}  // namespace bpe_reference

// Equals TrainBpe() for options that it takes: the tokens, and the merges in their order.
inline TokenizerSpec TrainBpeReference(absl::Span<const WordCount> word_counts,
                                       const BpeTrainerOptions& options) {
  using bpe_reference::TokenPair;
  const auto& special = options.special_tokens;
  TokenizerSpec spec = {.tokens = special};
  for (const unsigned char byte : BytesByLetter()) {
    spec.tokens.emplace_back(1, static_cast<char>(byte));
  }
  bpe_reference::Words words;
  for (const WordCount& word : word_counts) {
    words.emplace_back();
    for (const char byte : word.word) {
      const auto token = std::find(spec.tokens.begin(), spec.tokens.end(), std::string(1, byte));
      words.back().push_back(static_cast<int32_t>(token - spec.tokens.begin()));
    }
  }

  while (int64_t(spec.tokens.size()) < options.vocab_size) {
    std::map<TokenPair, int64_t> counts;  // ascending: the first of equal ones is merged
    for (size_t w = 0; w < words.size(); ++w) {
      for (size_t i = 0; i + 1 < words[w].size(); ++i) {
        counts[{words[w][i], words[w][i + 1]}] += word_counts[w].count;
      }
    }
    const auto text_of = [&](TokenPair pair) {
      return spec.tokens[pair.first] + spec.tokens[pair.second];
    };
    std::erase_if(counts, [&](const auto& entry) {
      return std::find(special.begin(), special.end(), text_of(entry.first)) != special.end();
    });
    const auto best =
        std::max_element(counts.begin(), counts.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    if (best == counts.end() || best->second < options.min_frequency) return spec;
    const TokenPair pair = best->first;
    const auto joined = static_cast<int32_t>(spec.tokens.size());
    spec.tokens.push_back(text_of(pair));
    spec.merges.push_back({pair.first, pair.second, joined, int64_t(spec.merges.size())});
    for (auto& word : words) bpe_reference::MergeInWord(pair, joined, &word);
  }
  return spec;
}

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_TRAINING_BPE_TRAINER_REFERENCE_H_
