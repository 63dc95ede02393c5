#include "data/tokenizer/formats/expand_merges.h"

#include <cstdint>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using Rows = std::set<std::tuple<int, int, int, int>>;

Rows RowsOf(const std::vector<Merge>& merges) {
  Rows rows;
  for (const Merge& merge : merges) {
    rows.emplace(merge.left, merge.right, merge.result, static_cast<int>(merge.rank));
  }
  return rows;
}

// The definition: every pair of tokens whose text is a token.
Rows AllPairs(const std::vector<std::string>& tokens, const std::vector<int64_t>& ranks) {
  Rows rows;
  const int n = static_cast<int>(tokens.size());
  for (int left = 0; left < n; ++left) {
    for (int right = 0; right < n; ++right) {
      for (int result = 0; result < n; ++result) {
        if (tokens[left] + tokens[right] != tokens[result]) continue;
        if (ranks[left] < 0 || ranks[right] < 0 || ranks[result] < 0) continue;
        rows.emplace(left, right, result, static_cast<int>(ranks[result]));
      }
    }
  }
  return rows;
}

TEST(ExpandMergesTest, HasEveryPairWhoseTextIsAToken) {
  const std::vector<std::string> tokens = {"a",
                                           "b",
                                           "ab",
                                           "ba",
                                           "aba",
                                           "abab",
                                           "aa",
                                           "aaa",
                                           "bab",
                                           "x",
                                           "abx",
                                           std::string("\0", 1),
                                           std::string("\0a", 2),
                                           std::string("a\0a", 3)};
  std::vector<int64_t> ranks;
  for (size_t i = 0; i < tokens.size(); ++i) ranks.push_back(static_cast<int64_t>(100 - i));
  auto merges = ExpandMerges(tokens, ranks);
  ASSERT_TRUE(merges.ok()) << merges.status();
  const Rows expected = AllPairs(tokens, ranks);
  EXPECT_GE(expected.size(), 12);
  EXPECT_EQ(RowsOf(*merges), expected);

  ranks[2] = -1;  // "ab" takes no part
  merges = ExpandMerges(tokens, ranks);
  ASSERT_TRUE(merges.ok()) << merges.status();
  EXPECT_EQ(RowsOf(*merges), AllPairs(tokens, ranks));
  EXPECT_LT(merges->size(), expected.size());
}

TEST(ExpandMergesTest, RefusesMoreMergesThanVocabulariesHave) {
  // All texts of two letters: each cut of each is a merge.
  std::vector<std::string> tokens;
  for (uint32_t bits = 2; bits < uint32_t{1} << 19; ++bits) {
    std::string token;
    for (uint32_t rest = bits; rest > 1; rest >>= 1) token.push_back(rest & 1 ? 'b' : 'a');
    tokens.push_back(token);
  }
  const std::vector<int64_t> ranks(tokens.size(), 0);
  EXPECT_EQ(ExpandMerges(tokens, ranks).status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace strake
