#include "core/base/json.h"

#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text) {
  const auto value = ParseJson(text, "a.json");
  return value.ok() ? "" : std::string(value.status().message());
}

TEST(JsonTest, KeepsEveryKindOfValue) {
  const auto value =
      ParseJson(R"({"a": [1, -2, 0.5, true, null, "x", [], {}], "b": {"a": "y"}})", "a.json");
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(*value, nlohmann::json::parse(
                        R"({"b": {"a": "y"}, "a": [1, -2, 0.5, true, null, "x", [], {}]})"));
  EXPECT_EQ(*ParseJson("7", "a.json"), 7);
}

TEST(JsonTest, DuplicateKeysAreNamedAtEveryLevel) {
  EXPECT_EQ(ErrorOf(R"({"a": 1, "b": 2, "a": 1})"), "a.json: bad JSON: duplicate key \"a\"");
  EXPECT_EQ(ErrorOf(R"({"x": [{"b": {}, "b": 3}]})"), "a.json: bad JSON: duplicate key \"b\"");
  EXPECT_EQ(ErrorOf(R"([{"b": 1}, {"b": 2}])"), "");
}

TEST(JsonTest, SyntaxErrorsSayWhere) {
  for (const char* text :
       {"", "{", "{\"a\" 1}", "[1,]", "{\"a\": 01}", "nul", "{} x", "\"\xff\""}) {
    EXPECT_THAT(ErrorOf(text), HasSubstr("a.json: bad JSON: parse error at line 1, column"))
        << text;
  }
  EXPECT_THAT(ErrorOf("{\n\"a\": 1e999}"), HasSubstr("number overflow parsing '1e999'"));
}

TEST(JsonTest, ErrorsOfALineHaveTheColumnAlone) {
  EXPECT_EQ(*ParseJsonLine("[7]", "line 3"), nlohmann::json::array({7}));
  EXPECT_THAT(std::string(ParseJsonLine("[7", "a.jsonl: line 3").status().message()),
              HasSubstr("a.jsonl: line 3: bad JSON: parse error at column 3: "));
  EXPECT_EQ(ParseJsonLine(R"({"a": 1, "a": 1})", "line 3").status().message(),
            "line 3: bad JSON: duplicate key \"a\"");
}

TEST(JsonTest, DepthIsBounded) {
  EXPECT_EQ(ErrorOf(std::string(64, '[') + std::string(64, ']')), "");
  EXPECT_EQ(ErrorOf(std::string(1000000, '[')), "a.json: bad JSON: more than 64 levels");
}

TEST(JsonTest, TextHasTheKeysOfOrderedJsonInTheirOrder) {
  const auto value = ParseOrderedJson(R"({"b": {"d": 1, "c": [2, "x"]}, "a": null})", "a.json");
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(JsonText(*value), R"({"b":{"d":1,"c":[2,"x"]},"a":null})");
  EXPECT_EQ(JsonText(nlohmann::json({{"b", 1}, {"a", 2}}), 2), "{\n  \"a\": 2,\n  \"b\": 1\n}");
  EXPECT_EQ(ParseOrderedJson(R"({"b": 1, "b": 2})", "a.json").status().message(),
            "a.json: bad JSON: duplicate key \"b\"");
}

TEST(JsonTest, TextOfWhatIsNotUtf8IsReplaced) {
  EXPECT_EQ(JsonText(nlohmann::json("/tmp/\xff/\u00fc")), "\"/tmp/\ufffd/\u00fc\"");
  EXPECT_EQ(JsonText(nlohmann::ordered_json("\xc3")), "\"\ufffd\"");
}

TEST(JsonTest, NumbersAreTheShortestThatReadBack) {
  EXPECT_EQ(JsonNumber(0.1), "0.1");
  EXPECT_EQ(JsonNumber(524288), "524288");
  EXPECT_EQ(JsonNumber(-1.7976931348623157e308), "-1.7976931348623157e+308");
  EXPECT_EQ(JsonNumber(std::nan("")), "null");
  EXPECT_EQ(JsonNumber(-INFINITY), "null");
}

TEST(JsonTest, QuotesAreShortAndOfPrintableCharacters) {
  EXPECT_EQ(QuoteJson(nlohmann::json("a\u009b\n\xff")), R"("a\u009b\n\ufffd")");
  EXPECT_EQ(QuoteJson(nlohmann::ordered_json::array({1, 2})), "[1,2]");
  const std::string x(78, 'x');
  EXPECT_EQ(QuoteJson(nlohmann::json(x)), '"' + x + '"');
  EXPECT_EQ(QuoteJson(nlohmann::json(x + 'x')), '"' + x + "x...");
}

}  // namespace
}  // namespace strake
