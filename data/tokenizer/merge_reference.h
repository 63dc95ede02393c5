// Byte-pair merges as they are defined, in O(n^3): what BytePairModel is compared with.
#ifndef STRAKE_DATA_TOKENIZER_MERGE_REFERENCE_H_
#define STRAKE_DATA_TOKENIZER_MERGE_REFERENCE_H_

#include <cstdint>
#include <vector>

#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

// Of the merges that apply, does the one of the lowest rank, at the leftmost place; again and
// again.
inline std::vector<int32_t> MergeReference(const std::vector<Merge>& merges,
                                           std::vector<int32_t> symbols) {
  while (true) {
    const Merge* best = nullptr;
    size_t place = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const Merge* found = nullptr;
      for (const Merge& merge : merges) {  // the last one of a pair counts
        if (merge.left == symbols[i] && merge.right == symbols[i + 1]) found = &merge;
      }
      if (found == nullptr || (best != nullptr && found->rank >= best->rank)) continue;
      best = found;
      place = i;
    }
    if (best == nullptr) return symbols;
    symbols[place] = best->result;
    symbols.erase(symbols.begin() + place + 1);
  }
}

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_MERGE_REFERENCE_H_
