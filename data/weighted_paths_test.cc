#include "data/weighted_paths.h"

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Each source as "name|paths|weight"; an error as its message.
std::vector<std::string> Parse(absl::string_view list, const std::set<std::string>& there = {}) {
  const auto sources =
      ParseWeightedPaths(list, [&](const std::string& path) { return there.count(path) > 0; });
  if (!sources.ok()) return {std::string(sources.status().message())};
  std::vector<std::string> texts;
  for (const WeightedPaths& source : *sources) {
    texts.push_back(absl::StrCat(source.name, "|", source.paths, "|", source.weight));
  }
  return texts;
}

TEST(ParseWeightedPathsTest, AListWithoutWeightsIsNoBlend) {
  for (const char* list : {"", "a.txt", "a.txt,b/**", "books:a.txt", "a:b,c:d", "a.txt,,", "-"}) {
    EXPECT_THAT(Parse(list), IsEmpty()) << list;
  }
}

TEST(ParseWeightedPathsTest, AWeightEndsASource) {
  EXPECT_THAT(Parse("a:0.7,b:0.3"), ElementsAre("a|a|0.7", "b|b|0.3"));
  EXPECT_THAT(Parse("a/*.txt,b:2,c:1e1"), ElementsAre("a/*.txt,b|a/*.txt,b|2", "c|c|10"));
  EXPECT_THAT(Parse("a:1"), ElementsAre("a|a|1"));
}

TEST(ParseWeightedPathsTest, ANameBeginsASource) {
  EXPECT_THAT(Parse("books:a/**,b.txt:0.7,code:c/**:.3"),
              ElementsAre("books|a/**,b.txt|0.7", "code|c/**|0.3"));
  EXPECT_THAT(Parse("a.txt:1,en_wiki-2:b:1"), ElementsAre("a.txt|a.txt|1", "en_wiki-2|b|1"));
}

TEST(ParseWeightedPathsTest, PathsWithColonsAndCommas) {
  EXPECT_THAT(Parse("a:0.7,b:0.3", {"a:0.7"}), ElementsAre("a:0.7,b|a:0.7,b|0.3"));
  EXPECT_THAT(Parse("a:0.7:2", {"a:0.7"}), ElementsAre("a:0.7|a:0.7|2"));
  EXPECT_THAT(Parse("a:0.7:2"), ElementsAre("a|0.7|2"));
  EXPECT_THAT(Parse("a:0.7", {"a:0.7"}), IsEmpty());
  EXPECT_THAT(Parse("a:1,b:2", {"a:1,b:2"}), IsEmpty());
  EXPECT_THAT(Parse("x/2024:*:1,b[:]5:1"), ElementsAre("x/2024:*|x/2024:*|1", "b[:]5|b[:]5|1"));
  EXPECT_THAT(Parse("b[:]5"), IsEmpty());
  EXPECT_THAT(Parse("a\\,b:0.5,c:0.5"), ElementsAre("a\\,b|a\\,b|0.5", "c|c|0.5"));
  EXPECT_THAT(Parse("a\\,b:0.5,c:0.5", {"a,b:0.5"}), ElementsAre("a\\,b:0.5,c|a\\,b:0.5,c|0.5"));
}

TEST(ParseWeightedPathsTest, AnyNumberIsAWeight) {
  EXPECT_THAT(Parse("a:0,b:-1,c:nan"), ElementsAre("a|a|0", "b|b|-1", "c|c|nan"));
}

TEST(ParseWeightedPathsTest, WhatIsWrongIsNamed) {
  EXPECT_THAT(Parse("books:a/**:0.7,b/**"), ElementsAre(HasSubstr("b/** has no weight")));
  EXPECT_THAT(Parse("a.txt,code:b.txt:0.7"), ElementsAre(HasSubstr("a.txt has no weight")));
  EXPECT_THAT(Parse("a:1,:2"), ElementsAre(HasSubstr("the source of weight 2, has no paths")));
  EXPECT_THAT(Parse("books::2"), ElementsAre(HasSubstr("weight 2, books, has no paths")));
  EXPECT_THAT(Parse("a:1,a:2"),
              ElementsAre(AllOf(HasSubstr("two sources are called a;"), HasSubstr("other:a:2"))));
}

}  // namespace
}  // namespace strake
