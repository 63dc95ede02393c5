#include "data/text/json_line.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Text(const std::string& line, const std::string& name = "text") {
  std::string buffer;
  const auto member = JsonStringMember(line, name, &buffer);
  return member.ok() ? std::string(*member) : "ERROR " + std::string(member.status().message());
}

std::string Message(const std::string& line) {
  std::string buffer;
  const auto member = JsonStringMember(line, "text", &buffer);
  EXPECT_TRUE(absl::IsInvalidArgument(member.status())) << line;
  return std::string(member.status().message());
}

TEST(JsonLineTest, FindsTheMember) {
  EXPECT_EQ(Text(R"({"text":"abc"})"), "abc");
  EXPECT_EQ(Text("\t{ \"text\" : \"abc\" , \"id\" : 1 }\r"), "abc");
  EXPECT_EQ(Text(R"({"id": {"text": "no"}, "x": ["text", {}], "text": "yes"})"), "yes");
  EXPECT_EQ(Text(R"({"id": 1, "id": 2, "te\u0078t": "escaped name"})"), "escaped name");
  EXPECT_EQ(Text(R"({"text": ""})"), "");
  EXPECT_EQ(Text(R"({"": "no name"})", ""), "no name");
}

TEST(JsonLineTest, Strings) {
  EXPECT_EQ(Text(R"({"text": "a\nb\t\"\\\/\b\f\r"})"), "a\nb\t\"\\/\b\f\r");
  EXPECT_EQ(Text(R"({"text": "\u0041\u00e9\u20ac\ud83c\udf89\uFFFF"})"), "Aé€🎉\xef\xbf\xbf");
  EXPECT_EQ(Text(R"({"text": "\u0000"})"), std::string(1, '\0'));
  EXPECT_EQ(Text("{\"text\": \"Grüße, 日本語 🎉 \x7f\"}"), "Grüße, 日本語 🎉 \x7f");
  // Each length, so that strings end at each place of a word of eight bytes.
  for (int length = 0; length < 40; ++length) {
    const std::string run(length, 'x');
    EXPECT_EQ(Text("{\"text\": \"" + run + "\"}"), run);
    EXPECT_EQ(Text("{\"text\": \"" + run + "\\n" + run + "\"}"), run + "\n" + run);
    EXPECT_EQ(Text("{\"text\": \"" + run + "é" + run + "\"}"), run + "é" + run);
    EXPECT_THAT(Message("{\"text\": \"" + run + "\x1f" + run + "\"}"),
                StartsWith("column " + std::to_string(11 + length) + ": a control character"));
  }
}

TEST(JsonLineTest, OtherValues) {
  for (const char* value : {"0", "-1", "12.5", "1e9", "-0.1E-7", "true", "false", "null", "[]",
                            "{}", "[1, [2, {\"a\": null}], \"]\"]", "{\"}\": \"\\\"\"}"}) {
    EXPECT_EQ(Text(std::string("{\"id\": ") + value + ", \"text\": \"t\"}"), "t") << value;
  }
}

TEST(JsonLineTest, WhatIsNoJson) {
  struct Case {
    const char* line;
    const char* message;
  };
  for (const Case& bad : std::vector<Case>{
           {"", "column 1: the line is not a JSON object"},
           {"text", "column 1: the line is not a JSON object"},
           {R"(["text"])", "column 1: the line is not a JSON object"},
           {R"({"text": "abc)", "column 10: the string that begins here does not end"},
           {R"({"text": "abc")", "column 15: the object does not end"},
           {R"({"text": "a"} x)", "column 15: the object ended before"},
           {R"({"text" "a"})", "column 9: \":\" is missing"},
           {R"({"text": "a" "b": 1})", "column 14: \",\" or \"}\" is missing"},
           {R"({"text": "a",})", "column 14: the name of a member is missing"},
           {R"({text: "a"})", "column 2: the name of a member is missing"},
           {R"({"text": 'a'})", "column 10: this is no value"},
           {R"({"text": })", "column 10: this is no value"},
           {R"({"text": )", "column 10: a value is missing"},
           {R"({"id": 01, "text": "a"})", "column 9: \",\" or \"}\" is missing"},
           {R"({"id": 1., "text": "a"})", "column 10: digits are missing"},
           {R"({"id": 1e, "text": "a"})", "column 10: digits are missing"},
           {R"({"id": nul, "text": "a"})", "column 8: this is no value"},
           {R"({"id": [1, 2, "text": "a"})", "column 21: a list or object does not end"},
           {R"({"id": NaN, "text": "a"})", "column 8: this is no value"},
           {R"({"text": "a\x"})", "column 12: an unknown escape"},
           {R"({"text": "a\u12g4"})", "column 12: \\u needs four hexadecimal digits"},
           {R"({"text": "a\ud83c"})", "column 12: half a character"},
           {R"({"text": "a\ud83c\u0041"})", "column 12: half a character"},
           {R"({"text": "a\udf89"})", "column 12: half a character"},
       }) {
    EXPECT_THAT(Message(bad.line), StartsWith(bad.message)) << bad.line;
  }
}

TEST(JsonLineTest, WhatIsNoUtf8) {
  for (const char* bytes :
       {"\x80", "\xc0\xaf", "\xc3", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf0\x80\x80\x80",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xe2\x82"}) {
    EXPECT_THAT(Message(std::string("{\"text\": \"ab") + bytes + "\"}"),
                StartsWith("column 13: bytes that are not UTF-8"));
  }
}

TEST(JsonLineTest, TheMemberIsWrong) {
  EXPECT_EQ(Message(R"({"id": 1, "body": "a"})"),
            "column 1: has no member \"text\"; it has id, body");
  EXPECT_EQ(Message("{}"), "column 1: has no member \"text\"; the object is empty");
  EXPECT_THAT(Message(R"({"text": 5})"), "column 10: member \"text\" is a number, not a string");
  EXPECT_THAT(Message(R"({"text": null})"), HasSubstr("is null, not a string"));
  EXPECT_THAT(Message(R"({"text": ["a"]})"), HasSubstr("is an array, not a string"));
  EXPECT_THAT(Message(R"({"text": {"a": 1}})"), HasSubstr("is an object, not a string"));
  EXPECT_THAT(Message(R"({"text": "a", "text": "b"})"),
              "column 23: member \"text\" is there twice");
}

TEST(JsonLineTest, Levels) {
  const auto line = [](int levels) {
    return "{\"a\": " + std::string(levels, '[') + std::string(levels, ']') + ", \"text\": \"t\"}";
  };
  EXPECT_EQ(Text(line(255)), "t");
  EXPECT_THAT(Message(line(256)), HasSubstr("more than 256 levels"));
  EXPECT_THAT(Message(line(1000000)), HasSubstr("more than 256 levels"));
  EXPECT_TRUE(ParseJsonObject(line(255)).ok());
  EXPECT_THAT(std::string(ParseJsonObject(line(256)).status().message()),
              HasSubstr("more than 256 levels"));
}

TEST(JsonLineTest, Nodes) {
  using Kind = JsonNode::Kind;
  const auto line = ParseJsonObject(
      R"( {"a": [1, "\u00e9\n", {}], "b\t": null, "a": {"c": true, "d": -2.5e3}, "e": []} )");
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->kind, Kind::kObject);
  EXPECT_EQ(line->column, 2);
  EXPECT_EQ(line->names, (std::vector<std::string>{"a", "b\t", "a", "e"}));
  ASSERT_EQ(line->values.size(), 4);
  const JsonNode& list = line->values[0];
  EXPECT_EQ(list.kind, Kind::kArray);
  ASSERT_EQ(list.values.size(), 3);
  EXPECT_EQ(list.values[0].kind, Kind::kNumber);
  EXPECT_EQ(list.values[1].kind, Kind::kString);
  EXPECT_EQ(list.values[1].text, "é\n");
  EXPECT_EQ(list.values[1].column, 12);
  EXPECT_EQ(list.values[2].kind, Kind::kObject);
  EXPECT_EQ(line->values[1].kind, Kind::kNull);
  EXPECT_EQ(line->values[2].values[0].kind, Kind::kBoolean);
  EXPECT_EQ(line->values[2].names, (std::vector<std::string>{"c", "d"}));
  EXPECT_EQ(line->values[3].kind, Kind::kArray);
  EXPECT_EQ(KindName(Kind::kArray), "an array");
}

TEST(JsonLineTest, WhatIsNoNode) {
  for (const char* bad : {"", "[]", "1", "{", "{\"a\": }", "{\"a\": [1 2]}", "{\"a\": [1,]}",
                          "{} x", "{\"a\": {\"b\" 1}}", "{\"a\": {1: 2}}", "{\"a\": \"\\x\"}"}) {
    const auto line = ParseJsonObject(bad);
    EXPECT_TRUE(absl::IsInvalidArgument(line.status())) << bad;
    EXPECT_EQ(line.status().message(), Message(bad)) << bad;
  }
}

}  // namespace
}  // namespace strake
