#include "core/ops/documents.h"

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor/sequence_chunks.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::TestTensor;

std::vector<int32_t> Values(const Tensor& positions) {
  const int32_t* const values = positions.data<int32_t>();
  return {values, values + positions.num_elements()};
}

TEST(DocumentsTest, RanksHoldThePositionsOfTheirChunks) {
  // Two sequences of 8; two ranks hold tokens {0, 1, 6, 7} and {2, 3, 4, 5} of each.
  const std::vector<int64_t> lengths = {3, 5, 8};
  const TestTensor positions(DType::kI32, {8});
  ASSERT_EQ(SetDocumentPositions(lengths, 8, positions, {.rank = 0, .num_ranks = 2}),
            absl::OkStatus());
  EXPECT_EQ(Values(positions), (std::vector<int32_t>{0, 1, 3, 4, 0, 1, 6, 7}));
  ASSERT_EQ(SetDocumentPositions(lengths, 8, positions, {.rank = 1, .num_ranks = 2}),
            absl::OkStatus());
  EXPECT_EQ(Values(positions), (std::vector<int32_t>{2, 0, 1, 2, 2, 3, 4, 5}));
}

TEST(DocumentsTest, ChunksOfAllRanksAreTheWhole) {
  constexpr int64_t kSeqLen = 24;
  const std::vector<int64_t> lengths = {1, 23, 24, 5, 1, 1, 10, 7, 12, 12};
  const TestTensor whole(DType::kI32, {4 * kSeqLen});
  ASSERT_EQ(SetDocumentPositions(lengths, kSeqLen, whole), absl::OkStatus());
  for (const int num_ranks : {2, 3, 4}) {
    for (int rank = 0; rank < num_ranks; ++rank) {
      const SequenceChunks chunks = {.rank = rank, .num_ranks = num_ranks};
      const TestTensor local(DType::kI32, {4 * chunks.NumLocal(kSeqLen)});
      ASSERT_EQ(SetDocumentPositions(lengths, kSeqLen, local, chunks), absl::OkStatus());
      std::vector<int32_t> expected;
      for (int64_t b = 0; b < 4; ++b) {
        for (const ShardRange& chunk : chunks.Of(kSeqLen)) {
          const auto part = Values(whole->Rows(b * kSeqLen + chunk.begin, b * kSeqLen + chunk.end));
          expected.insert(expected.end(), part.begin(), part.end());
        }
      }
      EXPECT_EQ(Values(local), expected) << rank << " of " << num_ranks;
      const Documents documents = {local, lengths};
      EXPECT_EQ(CheckDocuments("op", documents, local->dim(0), kSeqLen, chunks), absl::OkStatus());
      // Another rank's positions.
      const SequenceChunks other = {.rank = (rank + 1) % num_ranks, .num_ranks = num_ranks};
      EXPECT_NE(CheckDocuments("op", documents, local->dim(0), kSeqLen, other), absl::OkStatus());
    }
  }
}

TEST(DocumentsTest, LocalPositionsAreCheckedAgainstWholeSequences) {
  const SequenceChunks chunks = {.rank = 1, .num_ranks = 2};
  const std::vector<int64_t> lengths = {3, 5, 8};
  const TestTensor positions(DType::kI32, {8});
  ASSERT_EQ(SetDocumentPositions(lengths, 8, positions, chunks), absl::OkStatus());
  positions->data<int32_t>()[6] = 9;
  EXPECT_EQ(CheckDocuments("op", {positions, lengths}, 8, 8, chunks),
            absl::InvalidArgumentError("[op] positions[6] is 9; the documents' lengths give 4"));
  const std::vector<int64_t> short_lengths = {3, 5};
  EXPECT_EQ(SetDocumentPositions(short_lengths, 8, positions, chunks),
            absl::InvalidArgumentError("[documents] 2 documents have 8 tokens, the batch has 16"));
  EXPECT_DEATH((void)SetDocumentPositions({6}, 6, positions, chunks), "6 tokens over 2 ranks");
}

}  // namespace
}  // namespace strake
