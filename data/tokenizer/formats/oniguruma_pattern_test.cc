#include "data/tokenizer/formats/oniguruma_pattern.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

std::string Translated(const std::string& pattern) {
  const auto result = Pcre2OfOniguruma(pattern);
  return result.ok() ? *result : std::string(result.status().message());
}

TEST(OnigurumaPatternTest, MostIsTheSame) {
  for (const std::string pattern :
       {R"((?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}]+[\r\n]*|\s+(?!\S)|\s+)",
        R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)", "[一-龥぀-ゟ]+",
        "a{2,3}?b*+c++d?+", "[]a]x{y}z{", "[[:alpha:]_]", "(?<n>a)(?=b)(?<!c)", "\\", "[a", ")(",
        ""}) {
    EXPECT_EQ(Translated(pattern), pattern);
  }
}

TEST(OnigurumaPatternTest, QuantifiersOfQuantifiersAreGroups) {
  EXPECT_EQ(Translated("\\p{N}{1,3}+x"), "(?:\\p{N}{1,3})+x");
  EXPECT_EQ(Translated("ab{2}+"), "a(?:b{2})+");
  EXPECT_EQ(Translated("aé{2}?"), "a(?:é{2})?");
  EXPECT_EQ(Translated("x(a|(b)c){2,}+y"), "x(?:(a|(b)c){2,})+y");
  EXPECT_EQ(Translated("x[^a\\]]{,2}+"), "x(?:[^a\\]]{0,2})+");
  EXPECT_EQ(Translated("a{,2}"), "a{0,2}");
}

TEST(OnigurumaPatternTest, AnchorsAreThoseOfLines) {
  EXPECT_EQ(Translated("^a\\$|[^$]\\s++$"), "(?m:^)a\\$|[^$]\\s++(?m:$)");
}

TEST(OnigurumaPatternTest, WhatMeansSomethingElseIsRefused) {
  EXPECT_THAT(Translated("\\h+"), HasSubstr("hexadecimal"));
  EXPECT_THAT(Translated("[\\h]"), HasSubstr("hexadecimal"));
  EXPECT_THAT(Translated("[a[bc]]"), HasSubstr("class in a class"));
  EXPECT_THAT(Translated("[a-z&&b]"), HasSubstr("intersection"));
  EXPECT_THAT(Translated("(?im:a)"), HasSubstr("option m"));
  EXPECT_THAT(Translated("(?x)a b"), HasSubstr("option m or x"));
}

}  // namespace
}  // namespace strake
