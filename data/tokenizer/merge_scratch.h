// MergeScratch: what merging keeps from one word to the next, so that it allocates nothing.
#ifndef STRAKE_DATA_TOKENIZER_MERGE_SCRATCH_H_
#define STRAKE_DATA_TOKENIZER_MERGE_SCRATCH_H_

#include <cstdint>
#include <vector>

namespace strake {

// One per thread.
struct MergeScratch {
  std::vector<int32_t> symbols = {};
  // Of long words: neighbours, and a heap of (rank, place).
  std::vector<int32_t> next = {}, previous = {};
  std::vector<uint32_t> ranks = {};
  std::vector<uint64_t> heap = {};
  // Pairs that went into heaps and came out of them, for tests of the bound.
  int64_t num_heap_operations = 0;
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_MERGE_SCRATCH_H_
