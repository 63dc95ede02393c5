#include "data/tokenizer/formats/known_ranks.h"

#include <cstdint>
#include <set>
#include <string>

#include "gtest/gtest.h"

namespace strake {
namespace {

// The special tokens' ids, from the models' own descriptions.
struct Expected {
  const char* sha256;
  int64_t first, last;
  size_t count;
  const char* last_text;
};

constexpr Expected kExpected[] = {
    {"306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930", 50256, 50256, 1,
     "<|endoftext|>"},
    {"94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069", 50256, 50256, 1,
     "<|endoftext|>"},
    {"223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7", 100257, 100276, 5,
     "<|endofprompt|>"},
    {"446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d", 199999, 200018, 2,
     "<|endofprompt|>"},
    {"82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55", 128000, 128255, 256,
     "<|reserved_special_token_245|>"},
    {"d0bdbaf59b0762c8c807617e2d8ea51420eb1b1de266df2495be755c8e0ed6ed", 200000, 202047, 2048,
     "<|reserved_special_token_903|>"},
    {"b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186", 151643, 151850, 208,
     "<|extra_204|>"},
    {"8dde380a6405e935f5de16a99eb61c824f3f814dd1ed298784c72babb7a03cdd", 248044, 248076, 33,
     "<|audio_pad|>"},
    {"b34b360dbb493e781e479794586d661700670d65564001f23024971d1f2fa126", 50257, 51864, 1608,
     "<|30.00|>"},
};

TEST(KnownRanksTest, SpecialTokensHaveTheirIds) {
  for (const Expected& expected : kExpected) {
    const auto known = FindKnownRanks(expected.sha256);
    ASSERT_TRUE(known.has_value()) << expected.sha256;
    ASSERT_EQ(known->special.size(), expected.count);
    EXPECT_EQ(known->special.front().first, expected.first);
    EXPECT_EQ(known->special.back().first, expected.last);
    EXPECT_EQ(known->special.back().second, expected.last_text);
    std::set<int64_t> ids;
    std::set<std::string> texts;
    for (const auto& [id, text] : known->special) {
      ids.insert(id);
      texts.insert(text);
    }
    EXPECT_EQ(ids.size(), expected.count);
    EXPECT_EQ(texts.size(), expected.count);
    EXPECT_TRUE(texts.contains(known->end_of_text));
    EXPECT_TRUE(known->begin_of_text == nullptr || texts.contains(known->begin_of_text));
  }
}

TEST(KnownRanksTest, OtherFilesAreUnknown) {
  EXPECT_FALSE(FindKnownRanks("").has_value());
  EXPECT_FALSE(FindKnownRanks(std::string(64, '0')).has_value());
}

}  // namespace
}  // namespace strake
