#include "data/tokenizer/normalizer/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "data/tokenizer/random_spec.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using Kind = Normalizer::Kind;

std::string Normalized(const std::vector<Normalizer>& steps, const std::string& text,
                       bool continues = false) {
  const auto chain = NormalizerChain::Create(steps);
  EXPECT_TRUE(chain.ok()) << chain.status();
  std::string buffer;
  return std::string(chain->Apply(text, continues, &buffer));
}

std::string Form(Kind kind, const std::string& text) { return Normalized({{.kind = kind}}, text); }

// From the Unicode standard's examples of normalization (Annex 15).
TEST(NormalizerTest, UnicodeForms) {
  struct Case {
    std::string text, nfc, nfd, nfkc, nfkd;
  };
  const std::vector<Case> cases = {
      {"abc", "abc", "abc", "abc", "abc"},
      {"e\u0301x", "\u00E9x", "e\u0301x", "\u00E9x", "e\u0301x"},
      {"\u00E9", "\u00E9", "e\u0301", "\u00E9", "e\u0301"},
      {"\u1E9B\u0323", "\u1E9B\u0323", "\u017F\u0323\u0307", "\u1E69", "s\u0323\u0307"},
      {"\u1100\u1161\u11A8", "\uAC01", "\u1100\u1161\u11A8", "\uAC01", "\u1100\u1161\u11A8"},
      {"\uFB01", "\uFB01", "\uFB01", "fi", "fi"},
      {"\u212B", "\u00C5", "A\u030A", "\u00C5", "A\u030A"},
      {"\u0958", "\u0915\u093C", "\u0915\u093C", "\u0915\u093C", "\u0915\u093C"},
      {"a\u0315\u0300\u05AEb", "\u00E0\u05AE\u0315b", "a\u05AE\u0300\u0315b", "\u00E0\u05AE\u0315b",
       "a\u05AE\u0300\u0315b"}};
  for (const Case& c : cases) {
    EXPECT_EQ(Form(Kind::kNfc, c.text), c.nfc) << c.text;
    EXPECT_EQ(Form(Kind::kNfd, c.text), c.nfd) << c.text;
    EXPECT_EQ(Form(Kind::kNfkc, c.text), c.nfkc) << c.text;
    EXPECT_EQ(Form(Kind::kNfkd, c.text), c.nfkd) << c.text;
  }
}

// What utf8proc makes of the whole text at once.
std::string FormByDefinition(Kind kind, const std::string& text) {
  int options = UTF8PROC_STABLE;
  options |= kind == Kind::kNfc || kind == Kind::kNfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (kind == Kind::kNfkc || kind == Kind::kNfkd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* result = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &result,
                                 static_cast<utf8proc_option_t>(options));
  EXPECT_GE(size, 0);
  std::string form(reinterpret_cast<const char*>(result), size);
  std::free(result);
  return form;
}

std::string Utf8(int32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const auto size = utf8proc_encode_char(code_point, bytes);
  return {reinterpret_cast<const char*>(bytes), static_cast<size_t>(size)};
}

TEST(NormalizerTest, UnicodeFormsEqualTheDefinition) {
  Random random(6);
  std::vector<std::string> characters = {"a", "e", " ", "\u00E9", "\u1100", "\u1161", "\u11A8"};
  for (int32_t c = 0xC0; c < 0x370; ++c) characters.push_back(Utf8(c));
  for (int i = 0; i < 300; ++i) characters.push_back(Utf8(0x370 + Below(0xD000, &random)));
  for (int32_t c = 0xF900; c < 0xFB50; c += 3) characters.push_back(Utf8(c));
  for (int32_t c = 0x1D15E; c < 0x1D16A; ++c) characters.push_back(Utf8(c));
  int num_changed = 0;
  for (int round = 0; round < 3000; ++round) {
    const std::string text = RandomText(characters, Below(12, &random), &random);
    for (const Kind kind : {Kind::kNfc, Kind::kNfd, Kind::kNfkc, Kind::kNfkd}) {
      const std::string form = Form(kind, text);
      ASSERT_EQ(form, FormByDefinition(kind, text)) << text;
      num_changed += form != text;
    }
  }
  EXPECT_GT(num_changed, 1000);
}

TEST(NormalizerTest, InvalidBytesPassUnicodeForms) {
  EXPECT_EQ(Form(Kind::kNfc, "e\xFF\u0301 e\u0301\xC3"), "e\xFF\u0301 \u00E9\xC3");
}

// Marks of two classes in turn are sorted: in time n log n, or this would not end.
TEST(NormalizerTest, LongRunsOfMarksAreSorted) {
  std::string text = "a", below, above;
  for (int i = 0; i < 300000; ++i) {
    text += "\u0308\u0323";
    below += "\u0323";
    above += "\u0308";
  }
  EXPECT_EQ(Form(Kind::kNfd, text), "a" + below + above);
}

TEST(NormalizerTest, PrependsToWhatIsNotEmptyAndBegins) {
  const Normalizer prepend = {.kind = Kind::kPrepend, .content = "\u2581"};
  EXPECT_EQ(Normalized({prepend}, "a"),
            "\u2581"
            "a");
  EXPECT_EQ(Normalized({prepend}, ""), "");
  EXPECT_EQ(Normalized({prepend}, "a", /*continues=*/true), "a");
}

TEST(NormalizerTest, ReplacesTextAndMatches) {
  EXPECT_EQ(Normalized({{.kind = Kind::kReplace, .pattern = "aa", .content = "b"}}, "aaaxa"),
            "baxa");
  EXPECT_EQ(Normalized({{.kind = Kind::kReplace, .pattern = "", .content = "b"}}, "a"), "a");
  const Normalizer blanks = {.kind = Kind::kReplaceRegex, .pattern = " {2,}", .content = "$0"};
  EXPECT_EQ(Normalized({blanks}, "a   b c"), "a$0b c");
  EXPECT_FALSE(NormalizerChain::Create({{.kind = Kind::kReplaceRegex, .pattern = "("}}).ok());
}

TEST(NormalizerTest, LowercasesEachCharacter) {
  EXPECT_EQ(Normalized({{.kind = Kind::kLowercase}}, "\u00C0\u0130\u03A3\u00DF \u01C5\xFF"),
            "\u00E0i\u0307\u03C3\u00DF \u01C6\xFF");
}

TEST(NormalizerTest, StripsWhiteSpace) {
  EXPECT_EQ(Normalized({{.kind = Kind::kStrip}}, "\u3000 a b\n"), "a b");
  EXPECT_EQ(Normalized({{.kind = Kind::kStrip, .right = false}}, " a "), "a ");
  EXPECT_EQ(Normalized({{.kind = Kind::kStrip, .left = false}}, " a "), " a");
  EXPECT_EQ(Normalized({{.kind = Kind::kStrip}}, " a ", /*continues=*/true), " a");
}

TEST(NormalizerTest, CollapsesBlanks) {
  const Normalizer collapse = {.kind = Kind::kCollapseBlanks};
  EXPECT_EQ(Normalized({collapse}, "  a   b\t "), "a b\t");
  EXPECT_EQ(Normalized({collapse}, "  a", /*continues=*/true), " a");
  EXPECT_EQ(Normalized({collapse}, "   "), "");
  const Normalizer marked = {.kind = Kind::kCollapseBlanks, .content = "\u2581"};
  EXPECT_EQ(Normalized({marked}, "\u2581 a\u2581 b \u2581 \u2581"), "\u2581 a\u2581 b");
}

TEST(NormalizerTest, StepsFollowOneAnother) {
  const Normalizer prepend = {.kind = Kind::kPrepend, .content = " "};
  const Normalizer replace = {.kind = Kind::kReplace, .pattern = " ", .content = "_"};
  EXPECT_EQ(Normalized({prepend, replace, {.kind = Kind::kNfc}}, "e\u0301 b"), "_\u00E9_b");
  EXPECT_EQ(Normalized({replace, prepend}, "a b"), " a_b");
}

// A trie of texts of one or two bytes, written unit by unit: the root is unit 0; the children of a
// node lie at its place, exclusive or its offset, exclusive or their byte; a value at byte 0.
class TrieWriter {
 public:
  TrieWriter() : units_(4096) {}

  // Children of unit `parent` go to the block that begins at `block`, a multiple of 256.
  void SetOffset(uint32_t parent, uint32_t block) {
    units_[parent] |= ((parent ^ block) >> 8) << 10 | 1u << 9;
  }
  void SetLabel(uint32_t unit, char byte) { units_[unit] |= static_cast<uint8_t>(byte); }
  void SetValue(uint32_t parent, uint32_t block, uint32_t value) {
    units_[parent] |= 1u << 8;
    units_[block] = value | 1u << 31;
  }
  std::string Map(const std::string& replacements) const {
    const uint32_t size = static_cast<uint32_t>(units_.size() * sizeof(uint32_t));
    std::string map(sizeof(size) + size, '\0');
    std::memcpy(map.data(), &size, sizeof(size));
    std::memcpy(map.data() + sizeof(size), units_.data(), size);
    return map + replacements;
  }

 private:
  std::vector<uint32_t> units_;
};

// "a" becomes "xy", "ab" becomes nothing.
std::string SmallMap() {
  TrieWriter trie;
  trie.SetOffset(0, 256);
  const uint32_t a = 256 ^ 'a';
  trie.SetLabel(a, 'a');
  trie.SetOffset(a, 512);
  trie.SetValue(a, 512 ^ (a & 255), 0);
  const uint32_t ab = 512 ^ (a & 255) ^ 'b';
  trie.SetLabel(ab, 'b');
  trie.SetOffset(ab, 1024);
  trie.SetValue(ab, 1024 ^ (ab & 255), 3);
  return trie.Map(std::string("xy\0\0", 4));
}

TEST(NormalizerTest, TheMapOfCharactersTakesTheLongestEntry) {
  const Normalizer map = {.kind = Kind::kCharsMap, .content = SmallMap()};
  EXPECT_EQ(Normalized({map}, "a"), "xy");
  EXPECT_EQ(Normalized({map}, "abab"), "");
  EXPECT_EQ(Normalized({map}, "aabc\u00E9\xFF"), "xyc\u00E9\xFF");
  EXPECT_EQ(Normalized({map}, "bc"), "bc");
}

TEST(NormalizerTest, RefusesABrokenMapOfCharacters) {
  for (const std::string content : {"", "abc", "\x08\x00\x00\x00unit", "\x03\x00\x00\x00units"}) {
    EXPECT_FALSE(NormalizerChain::Create({{.kind = Kind::kCharsMap, .content = content}}).ok());
  }
}

TEST(NormalizerTest, SurvivesDamagedMaps) {
  Random random(7);
  const std::string map = SmallMap();
  for (int round = 0; round < 2000; ++round) {
    std::string damaged = map;
    for (int i = 0; i < 20; ++i) {
      damaged[4 + Below(8, &random) * 64 + Below(damaged.size() - 4, &random) % 2100] =
          static_cast<char>(random());
    }
    damaged.resize(damaged.size() - Below(4, &random));
    Normalized({{.kind = Kind::kCharsMap, .content = damaged}}, "abaabbcab");
  }
}

}  // namespace
}  // namespace strake
