#include "data/tokenizer/library_versions.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(LibraryVersionsTest, HaveNumbers) {
  EXPECT_THAT(TokenizerLibraryVersions(),
              ::testing::MatchesRegex("Unicode [0-9.]+, utf8proc [0-9.]+, PCRE2 [0-9]+\\.[0-9].*"));
}

}  // namespace
}  // namespace strake
