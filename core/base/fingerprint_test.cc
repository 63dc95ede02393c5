#include "core/base/fingerprint.h"

#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace strake {
namespace {

std::vector<uint32_t> Words(int64_t count) {
  std::vector<uint32_t> words(count);
  for (int64_t i = 0; i < count; ++i) words[i] = i * 0x9e3779b9u + 1;
  return words;
}

Fingerprint Of(const FingerprintPlace& place, const std::vector<uint32_t>& words) {
  return FingerprintOfRow(place, words.data(), words.size());
}

// Runs save fingerprints: the values are part of their format. They are from a program in Python,
// whose splitmix64 gives the published 6457827717110365317 as the first number of state 1234567.
TEST(FingerprintTest, ValuesOfAnotherImplementation) {
  EXPECT_EQ(Of({.key = 0x0123456789abcdef, .row = 5, .column = 7}, Words(100)).ToString(),
            "2d886c9930a2a4ee2c82044116182d38");
  EXPECT_EQ(Of({}, {1}).ToString(), "00000000a8e60d2f00000000a5f28425");
  EXPECT_EQ(Of({}, {}).ToString(), std::string(32, '0'));
}

TEST(FingerprintTest, PartsAddUpInAnyOrder) {
  const std::vector<uint32_t> words = Words(1000);
  const FingerprintPlace place = {.key = 3, .row = 2, .column = 11};
  for (const int64_t cut : {0, 1, 7, 512, 999, 1000}) {
    Fingerprint sum = FingerprintOfRow({3, 2, 11 + cut}, words.data() + cut, 1000 - cut);
    sum += FingerprintOfRow(place, words.data(), cut);
    EXPECT_EQ(sum, Of(place, words)) << cut;
  }
}

// Every lane alone tells the places and all single bits apart.
TEST(FingerprintTest, EachBitOfEachElementCountsInBothLanes) {
  const std::vector<uint32_t> words = Words(100);
  std::set<uint64_t> seen[2];
  size_t num_sets = 0;
  const auto see = [&](const Fingerprint& fingerprint) {
    ++num_sets;
    for (int lane = 0; lane < 2; ++lane) seen[lane].insert(fingerprint.lanes[lane]);
  };
  see(Of({}, words));
  for (const FingerprintPlace& place : {FingerprintPlace{.key = 1}, {.row = 1}, {.column = 1}}) {
    see(Of(place, words));
  }
  for (int i = 0; i < 100; ++i) {
    for (int bit = 0; bit < 32; ++bit) {
      std::vector<uint32_t> changed = words;
      changed[i] ^= 1u << bit;
      see(Of({}, changed));
    }
    for (int j = 0; j < i; ++j) {
      std::vector<uint32_t> swapped = words;
      std::swap(swapped[i], swapped[j]);
      see(Of({}, swapped));
    }
  }
  EXPECT_EQ(seen[0].size(), num_sets);
  EXPECT_EQ(seen[1].size(), num_sets);
}

}  // namespace
}  // namespace strake
