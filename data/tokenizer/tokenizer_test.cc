#include "data/tokenizer/tokenizer.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "data/tokenizer/merge_reference.h"
#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/random_spec.h"
#include "data/tokenizer/words/known_patterns.h"
#include "data/tokenizer/words/unicode.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using Tokens = std::vector<int32_t>;
using TokenizerPointer = std::unique_ptr<const Tokenizer>;

TokenizerPointer Make(TokenizerSpec spec) {
  auto tokenizer = Tokenizer::Create(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value();
}

Tokens Encode(const Tokenizer& tokenizer, absl::string_view text, bool continues = false) {
  WordCache cache;
  Tokens tokens;
  tokenizer.Encode(text, &cache, &tokens, continues);
  return tokens;
}

const std::string kLetters = "abc'd .,1\n";

// What texts are made of: all that patterns and normalizers treat differently.
const std::vector<std::string>& Characters() {
  static const auto* const characters = new std::vector<std::string>{
      "a",          "b",      "c",   "a",      "b",       "c",      "d",      "'",
      " ",          " ",      " ",   ".",      ",",       "1",      "2",      "\n",
      "\n",         "\r\n",   "\t",  "\u00E9", "e\u0301", "\u4E2D", "\u6587", "\u3002",
      "\U0001F600", "\u3000", "<s>", "<|x|>",  "\u2581"};
  return *characters;
}

PreTokenizer Split(const std::string& pattern) {
  return {.kind = PreTokenizer::Kind::kSplit, .pattern = pattern};
}

TokenizerSpec WithPattern(TokenizerSpec spec, const std::string& pattern) {
  spec.pre_tokenizers = {Split(pattern)};
  return spec;
}

void AddToken(AddedToken token, TokenizerSpec* spec) {
  token.id = static_cast<int32_t>(spec->tokens.size());
  spec->tokens.push_back(token.text);
  spec->added.push_back(token);
}

constexpr char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Specs that go different ways through the encoder.
std::vector<TokenizerSpec> Specs(Random* random) {
  std::vector<TokenizerSpec> specs;
  const TokenizerSpec bytes = RandomByteLevelSpec(kLetters, 150, random);
  specs.push_back(bytes);
  specs.push_back(WithPattern(bytes, kGpt2Words));
  specs.push_back(WithPattern(bytes, kLlama3Pattern));
  specs.back().whole_words = true;
  AddToken({.text = "<|x|>", .special = true}, &specs.back());
  specs.push_back(WithPattern(bytes, "[a-z]+|.\\s*"));  // no function of ours knows it
  specs.push_back(WithPattern(bytes, kGpt2Words));
  specs.back().normalizers = {{.kind = Normalizer::Kind::kNfc}};
  AddToken({.text = "<s>", .special = true, .lstrip = true}, &specs.back());
  specs.push_back(WithPattern(bytes, kGpt2Words));
  specs.back().pre_tokenizers[0].kind = PreTokenizer::Kind::kByteLevel;
  specs.back().pre_tokenizers[0].use_regex = true;
  specs.back().pre_tokenizers[0].add_prefix_space = true;
  specs.push_back(RandomSentencePieceSpec(60, /*marks_inside=*/false, random));
  AddToken({.text = "<s>", .special = true, .normalized = true}, &specs.back());
  specs.push_back(RandomSentencePieceSpec(60, /*marks_inside=*/true, random));
  specs.push_back(RandomSentencePieceSpec(60, /*marks_inside=*/false, random));
  specs.back().normalizers.clear();
  specs.back().pre_tokenizers = {{.kind = PreTokenizer::Kind::kMetaspace,
                                  .pattern = "\u2581",
                                  .prepend = PreTokenizer::Prepend::kFirst}};
  specs.push_back(WithPattern(bytes, kGpt2Words));
  AddToken({.text = "<s>", .special = true, .normalized = true}, &specs.back());
  AddToken({.text = "<|x|>", .special = true}, &specs.back());
  return specs;
}

TEST(TokenizerTest, EqualsTheDefinitionWordByWord) {
  Random random(8);
  for (const char* const pattern : {kGpt2Words, kLlama3Pattern}) {
    const TokenizerSpec spec = WithPattern(RandomByteLevelSpec(kLetters, 300, &random), pattern);
    const auto tokenizer = Make(spec);
    const auto chain = PreTokenizerChain::Create(spec.pre_tokenizers);
    for (int round = 0; round < 100; ++round) {
      const std::string text = RandomText(Characters(), Below(60, &random), &random);
      TextPieces pieces;
      chain->Apply(text, true, &pieces);
      Tokens expected;
      for (const auto [begin, end] : pieces.ranges) {
        Tokens bytes;
        for (size_t i = begin; i < end; ++i) bytes.push_back(static_cast<uint8_t>(text[i]));
        const Tokens merged = MergeReference(spec.merges, bytes);
        expected.insert(expected.end(), merged.begin(), merged.end());
      }
      ASSERT_EQ(Encode(*tokenizer, text), expected) << text;
    }
  }
}

TEST(TokenizerTest, ACacheThatIsUsedChangesNothing) {
  Random random(9);
  for (const TokenizerSpec& spec : Specs(&random)) {
    const auto tokenizer = Make(spec);
    WordCache used, tiny(/*log2_entries=*/2);
    for (int round = 0; round < 50; ++round) {
      const std::string text = RandomText(Characters(), Below(300, &random), &random);
      const Tokens expected = Encode(*tokenizer, text);
      for (WordCache* const cache : {&used, &tiny}) {
        Tokens tokens;
        tokenizer->Encode(text, cache, &tokens);
        ASSERT_EQ(tokens, expected) << text;
      }
    }
  }
}

TEST(TokenizerTest, OneCacheMayServeTwoTokenizers) {
  Random random(10);
  const auto a = Make(RandomByteLevelSpec("abc", 20, &random));
  const auto b = Make(RandomByteLevelSpec("abc", 20, &random));
  WordCache cache;
  for (const Tokenizer* const tokenizer : {a.get(), b.get(), a.get()}) {
    Tokens tokens;
    tokenizer->Encode("abcabc", &cache, &tokens);
    EXPECT_EQ(tokens, Encode(*tokenizer, "abcabc"));
  }
}

TEST(TokenizerTest, AppendsToTheTokens) {
  Random random(11);
  const auto tokenizer = Make(RandomByteLevelSpec("abc", 5, &random));
  WordCache cache;
  Tokens tokens = {-1};
  tokenizer->Encode("x", &cache, &tokens);
  tokenizer->Encode("", &cache, &tokens);
  EXPECT_EQ(tokens, (Tokens{-1, 'x'}));
}

// Encodes a text that comes in parts of `size` bytes.
Tokens EncodeInParts(const Tokenizer& tokenizer, const std::string& text, size_t size,
                     int* num_cuts) {
  WordCache cache;
  Tokens tokens;
  std::string rest;
  bool continues = false;
  for (size_t i = 0; i < text.size(); i += size) {
    rest += text.substr(i, size);
    const size_t cut = tokenizer.SafeCut(rest);
    EXPECT_LE(cut, rest.size());
    if (cut == 0) continue;
    tokenizer.Encode(absl::string_view(rest).substr(0, cut), &cache, &tokens, continues);
    rest.erase(0, cut);
    continues = true;
    ++*num_cuts;
  }
  tokenizer.Encode(rest, &cache, &tokens, continues);
  return tokens;
}

TEST(TokenizerTest, PartsHaveTheTokensOfTheWhole) {
  Random random(12);
  std::vector<std::string> with_bytes = Characters();
  with_bytes.push_back("\xFF");
  std::vector<int> num_cuts;
  for (const TokenizerSpec& spec : Specs(&random)) {
    const auto tokenizer = Make(spec);
    num_cuts.push_back(0);
    for (int round = 0; round < 300; ++round) {
      const auto& characters = round % 5 == 0 ? with_bytes : Characters();
      const std::string text = RandomText(characters, Below(120, &random), &random);
      const size_t size = 1 + Below(40, &random);
      ASSERT_EQ(EncodeInParts(*tokenizer, text, size, &num_cuts.back()), Encode(*tokenizer, text))
          << "'" << text << "' by " << size << " of spec " << num_cuts.size();
    }
  }
  // Without a pattern, with one that nobody knows, and with marks inside tokens there are no cuts.
  for (size_t i = 0; i < num_cuts.size(); ++i) {
    EXPECT_EQ(num_cuts[i] == 0, i == 0 || i == 3 || i == 7) << i << ": " << num_cuts[i];
  }
}

TEST(TokenizerTest, DecodingGivesBackTheBytes) {
  Random random(13);
  for (const TokenizerSpec& spec : Specs(&random)) {
    const bool keeps_all =
        spec.normalizers.empty() && spec.pre_tokenizers.size() <= 1 &&
        (spec.pre_tokenizers.empty() || spec.pre_tokenizers[0].kind == PreTokenizer::Kind::kSplit);
    if (!keeps_all) continue;
    const auto tokenizer = Make(spec);
    for (int round = 0; round < 50; ++round) {
      std::string text;
      for (size_t i = Below(200, &random); i > 0; --i) text += static_cast<char>(random());
      ASSERT_EQ(tokenizer->Decode(Encode(*tokenizer, text), false), text);
      text = RandomText(Characters(), Below(200, &random), &random);
      ASSERT_EQ(tokenizer->Decode(Encode(*tokenizer, text), false), text);
    }
  }
}

TEST(TokenizerTest, SentencePieceTextComesBack) {
  Random random(14);
  const auto tokenizer = Make(RandomSentencePieceSpec(60, false, &random));
  for (const std::string text : {"a b", " a", "  x ", "\xFF\xC3", "\u4E2D"}) {
    EXPECT_EQ(tokenizer->Decode(Encode(*tokenizer, text), false), text);
  }
}

TEST(TokenizerTest, ThreadsGetTheSameTokens) {
  Random random(15);
  const auto tokenizer = Make(WithPattern(RandomByteLevelSpec(kLetters, 200, &random), kGpt2Words));
  const std::string text = RandomText(Characters(), 20000, &random);
  const Tokens expected = Encode(*tokenizer, text);
  std::atomic<int> num_equal = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { num_equal += Encode(*tokenizer, text) == expected; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_equal, 8);
}

TokenizerSpec AddedSpec() {
  Random random(16);
  TokenizerSpec spec = WithPattern(RandomByteLevelSpec("x", 0, &random), kGpt2Words);
  AddToken({.text = "<s>", .special = true}, &spec);
  AddToken({.text = "<n>", .normalized = true}, &spec);
  return spec;
}

TEST(TokenizerTest, MatchesAddedTokens) {
  const auto tokenizer = Make(AddedSpec());
  EXPECT_EQ(Encode(*tokenizer, "a<s><n>b"), (Tokens{'a', 256, 257, 'b'}));
  EXPECT_EQ(tokenizer->Decode({'a', 256, 257, 'b'}, false), "a<s><n>b");
  EXPECT_EQ(tokenizer->Decode({'a', 256, 257, 'b'}, true), "a<n>b");
  EXPECT_EQ(tokenizer->vocab_size(), 258);
  EXPECT_EQ(tokenizer->Find("<s>"), 256);
  EXPECT_EQ(tokenizer->Find("x"), 'x');
  EXPECT_EQ(tokenizer->Find("<t>"), std::nullopt);
  EXPECT_TRUE(tokenizer->IsSpecial(256));
  EXPECT_FALSE(tokenizer->IsSpecial(257));
  EXPECT_FALSE(tokenizer->IsSpecial(-1));
  EXPECT_FALSE(tokenizer->IsSpecial(258));
  EXPECT_EQ(tokenizer->NumBytes(256), 0);
  EXPECT_EQ(tokenizer->NumBytes(257), 3);
}

// What Hugging Face's tokenizers 0.23 gives for Prepend, Replace and these two tokens.
TEST(TokenizerTest, NormalizesTheTextOfNormalizedTokens) {
  TokenizerSpec spec;
  spec.byte_level = false;
  spec.tokens = {"\u2581", "a", "b"};
  AddToken({.text = "<n>", .normalized = true}, &spec);
  AddToken({.text = "<r>"}, &spec);
  spec.normalizers = {{.kind = Normalizer::Kind::kPrepend, .content = "\u2581"},
                      {.kind = Normalizer::Kind::kReplace, .pattern = " ", .content = "\u2581"}};
  const auto tokenizer = Make(spec);
  EXPECT_EQ(Encode(*tokenizer, "a<n>b<r>a"), (Tokens{0, 1, 2, 4, 0, 1}));
  EXPECT_EQ(Encode(*tokenizer, "<n> a"), (Tokens{3, 0, 1}));
  EXPECT_EQ(Encode(*tokenizer, "a <n>"), (Tokens{0, 1, 3}));
  EXPECT_EQ(Encode(*tokenizer, " <n>"), (Tokens{0, 3}));
  EXPECT_EQ(tokenizer->Decode({3, 4}, false), "\u2581<n><r>");
  EXPECT_EQ(tokenizer->Find("<n>"), 3);
  spec.added[0].verbatim = true;
  EXPECT_EQ(Encode(*Make(spec), "a<n>b"), (Tokens{0, 1, 3, 2}));
}

TEST(TokenizerTest, NothingIsPutBeforeTextThatContinues) {
  Random random(17);
  const auto tokenizer = Make(RandomSentencePieceSpec(0, false, &random));
  const int32_t mark = tokenizer->Find("\u2581").value();
  const int32_t a = tokenizer->Find("a").value();
  EXPECT_EQ(Encode(*tokenizer, "a"), (Tokens{mark, a}));
  EXPECT_EQ(Encode(*tokenizer, "a", /*continues=*/true), (Tokens{a}));
}

struct Marked {
  Tokens tokens;
  std::vector<uint8_t> inside;
};

Marked EncodeWithSpans(const Tokenizer& tokenizer, absl::string_view text,
                       const std::vector<TextSpan>& spans) {
  WordCache cache;
  Marked marked;
  tokenizer.EncodeWithSpans(text, spans, &cache, &marked.tokens, &marked.inside);
  return marked;
}

using Marks = std::vector<uint8_t>;

TEST(EncodeWithSpansTest, TokensAreThoseOfEncode) {
  Random random(41);
  for (const TokenizerSpec& spec : Specs(&random)) {
    const auto tokenizer = Make(spec);
    for (int round = 0; round < 50; ++round) {
      const std::string text = RandomText(Characters(), Below(60, &random), &random);
      const size_t begin = Below(text.size() + 1, &random);
      const TextSpan span = {begin, begin + Below(text.size() + 1 - begin, &random)};
      const Tokens expected = Encode(*tokenizer, text);
      const Marked marked = EncodeWithSpans(*tokenizer, text, {span});
      ASSERT_EQ(marked.tokens, expected) << text;
      ASSERT_EQ(marked.inside.size(), expected.size());
      EXPECT_EQ(EncodeWithSpans(*tokenizer, text, {}).inside, Marks(expected.size(), 0));
      EXPECT_EQ(EncodeWithSpans(*tokenizer, text, {{0, text.size()}}).inside,
                Marks(expected.size(), 1))
          << text;
    }
  }
}

// The definition, where each token is its bytes: these stand in the text one after the other.
TEST(EncodeWithSpansTest, EqualsTheDefinitionByBytes) {
  Random random(42);
  int64_t num_inside = 0;
  for (const char* const pattern : {kGpt2Words, kLlama3Pattern}) {
    TokenizerSpec spec = WithPattern(RandomByteLevelSpec(kLetters, 200, &random), pattern);
    AddToken({.text = "<s>", .special = true}, &spec);
    const auto tokenizer = Make(spec);
    for (int round = 0; round < 200; ++round) {
      const std::string text = RandomText(Characters(), 1 + Below(40, &random), &random);
      const size_t begin = Below(text.size(), &random), end = begin + Below(9, &random);
      const size_t second = end + Below(9, &random);
      const std::vector<TextSpan> spans = {{begin, end}, {second, second + Below(9, &random)}};
      const Marked marked = EncodeWithSpans(*tokenizer, text, spans);
      size_t at = 0;
      for (size_t i = 0; i < marked.tokens.size(); ++i) {
        const size_t token_end = at + tokenizer->spec().tokens[marked.tokens[i]].size();
        bool expected = false;
        for (; at < token_end; ++at) {
          for (const TextSpan span : spans) expected |= span.begin <= at && at < span.end;
        }
        ASSERT_EQ(marked.inside[i], expected) << text << " " << i;
        num_inside += expected;
      }
      ASSERT_EQ(at, text.size());
    }
  }
  EXPECT_GT(num_inside, 500);
}

TEST(EncodeWithSpansTest, NormalizedText) {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(1, static_cast<char>(byte));
  spec.normalizers = {{.kind = Normalizer::Kind::kNfc}};
  const auto composing = Make(spec);
  // "é" is made of "e" and an accent, and has two bytes.
  EXPECT_EQ(EncodeWithSpans(*composing, "ae\u0301b", {{1, 2}}).inside, (Marks{0, 1, 1, 0}));
  EXPECT_EQ(EncodeWithSpans(*composing, "ae\u0301b", {{2, 4}}).inside, (Marks{0, 1, 1, 0}));
  EXPECT_EQ(EncodeWithSpans(*composing, "ae\u0301b", {{4, 5}}).inside, (Marks{0, 0, 0, 1}));

  spec = {};
  spec.byte_level = false;
  spec.tokens = {"<unk>", "\u2581", "a", "b"};
  spec.unknown = 0;
  spec.fuse_unknown = true;
  AddToken({.text = "<n>", .normalized = true}, &spec);
  AddToken({.text = "<r>", .rstrip = true}, &spec);
  spec.normalizers = {{.kind = Normalizer::Kind::kPrepend, .content = "\u2581"},
                      {.kind = Normalizer::Kind::kReplace, .pattern = " ", .content = "\u2581"}};
  const auto prepending = Make(spec);
  EXPECT_EQ(Encode(*prepending, "a b"), (Tokens{1, 2, 1, 3}));
  EXPECT_EQ(EncodeWithSpans(*prepending, "a b", {{0, 1}}).inside, (Marks{1, 1, 0, 0}));
  EXPECT_EQ(EncodeWithSpans(*prepending, "a b", {{1, 2}}).inside, (Marks{0, 0, 1, 0}));
  EXPECT_EQ(EncodeWithSpans(*prepending, "a b", {{2, 3}}).inside, (Marks{0, 0, 0, 1}));
  // "<r>" takes the blanks behind it along.
  EXPECT_EQ(Encode(*prepending, "<r>  b"), (Tokens{5, 1, 3}));
  EXPECT_EQ(EncodeWithSpans(*prepending, "<r>  b", {{4, 5}}).inside, (Marks{1, 0, 0}));
  EXPECT_EQ(EncodeWithSpans(*prepending, "<r>  b", {{5, 6}}).inside, (Marks{0, 1, 1}));
  // "xéy" is one unknown token.
  EXPECT_EQ(Encode(*prepending, "ax\u00e9yb"), (Tokens{1, 2, 0, 3}));
  EXPECT_EQ(EncodeWithSpans(*prepending, "ax\u00e9yb", {{2, 3}}).inside, (Marks{0, 0, 1, 0}));
  EXPECT_EQ(EncodeWithSpans(*prepending, "ax\u00e9yb", {{5, 6}}).inside, (Marks{0, 0, 0, 1}));
  EXPECT_EQ(Encode(*prepending, "a <n>"), (Tokens{1, 2, 4}));
  EXPECT_EQ(EncodeWithSpans(*prepending, "a <n>", {{3, 4}}).inside, (Marks{0, 0, 1}));
}

// The last word before bytes that are no text, and all that follows, are one word: "b" and "\xFF"
// merge across what would be a word's end, and so do "." and "b" behind it.
TEST(TokenizerTest, InvalidBytesAndWhatFollowsAreOneWord) {
  TokenizerSpec spec = AddedSpec();
  spec.tokens.insert(spec.tokens.end(), {"b\xFF", ".b"});
  spec.merges = {{'b', 0xFF, 258, 0}, {'.', 'b', 259, 1}};
  const auto tokenizer = Make(spec);
  EXPECT_EQ(Encode(*tokenizer, "a b\xFF.b"), (Tokens{'a', ' ', 258, 259}));
  EXPECT_EQ(Encode(*tokenizer, "a b.b"), (Tokens{'a', ' ', 'b', '.', 'b'}));
  EXPECT_EQ(Encode(*tokenizer, "b\xFF<s>.b"), (Tokens{258, 256, '.', 'b'}));
  EXPECT_EQ(Encode(*tokenizer, "\xFF"), (Tokens{0xFF}));
}

TEST(TokenizerTest, NormalizedTokensAreSoughtAmongInvalidBytes) {
  TokenizerSpec spec = AddedSpec();
  spec.tokens.insert(spec.tokens.end(), {"a\xFF", " \xFF"});
  spec.merges = {{'a', 0xFF, 258, 0}, {' ', 0xFF, 259, 1}};
  const auto tokenizer = Make(spec);
  EXPECT_EQ(Encode(*tokenizer, "a\xFF<n>b"), (Tokens{258, 257, 'b'}));
  EXPECT_EQ(Encode(*tokenizer, "\xFF<s>\xFF<n>\xFF"), (Tokens{0xFF, 256, 0xFF, 257, 0xFF}));
  EXPECT_EQ(Encode(*tokenizer, "a<n>\xFF<n> \xFF"), (Tokens{'a', 257, 0xFF, 257, 259}));
  // Normalized, the text before the first such byte alone is searched.
  spec.normalizers = {{.kind = Normalizer::Kind::kNfc}};
  EXPECT_EQ(Encode(*Make(spec), "<n>\xFF<n>"), (Tokens{257, 0xFF, '<', 'n', '>'}));
}

// As tiktoken does, blank words before the bytes belong to them too.
TEST(TokenizerTest, BlanksBeforeInvalidBytesJoinThem) {
  TokenizerSpec spec = AddedSpec();
  spec.tokens.push_back("\n ");
  spec.merges = {{'\n', ' ', 258, 0}};
  spec.pre_tokenizers = {Split(kLlama3Pattern)};
  const auto tokenizer = Make(spec);
  EXPECT_EQ(Encode(*tokenizer, "a\n "), (Tokens{'a', '\n', ' '}));
  EXPECT_EQ(Encode(*tokenizer, "a\n \xFF"), (Tokens{'a', 258, 0xFF}));
}

// A run of one letter cannot be cut, except after the longest word.
TEST(TokenizerTest, TheLongestWordEndsAnywhere) {
  TokenizerSpec spec = AddedSpec();
  spec.tokens.push_back("xx");
  spec.merges = {{'x', 'x', 258, 0}};
  const auto tokenizer = Make(spec);
  const size_t most = Tokenizer::kMaxWordBytes;
  const std::string text = "x" + std::string(most + 10, 'x');
  const Tokens tokens = Encode(*tokenizer, text);
  Tokens expected(most / 2 + 5, 258);
  expected.push_back('x');
  EXPECT_EQ(tokens, expected);
  EXPECT_EQ(tokenizer->SafeCut(absl::string_view(text).substr(0, most)), 0);
  EXPECT_EQ(tokenizer->SafeCut(text), most);
}

TEST(TokenizerTest, LongInvalidTextIsCutToo) {
  const auto tokenizer = Make(AddedSpec());
  const size_t most = Tokenizer::kMaxWordBytes;
  const std::string text = "ab \xFF" + std::string(most + 10, 'y');
  EXPECT_EQ(tokenizer->SafeCut(text), 2);
  EXPECT_EQ(tokenizer->SafeCut(text.substr(2)), most + 1);
  EXPECT_EQ(Encode(*tokenizer, text).size(), text.size());
  EXPECT_EQ(tokenizer->SafeCut("\xFF"
                               "ab<s>cd"),
            6);
  EXPECT_EQ(tokenizer->SafeCut("<s>\xFF"
                               "ab<n>cd<s>e"),
            9);
}

TEST(TokenizerTest, HashesWhatGivesTheSameTokensAlike) {
  const TokenizerSpec spec = AddedSpec();
  const std::string hash = Make(spec)->Hash();
  EXPECT_EQ(hash.size(), 32);
  TokenizerSpec same = spec;
  same.end_of_text = 256;
  same.decoders.clear();
  EXPECT_EQ(Make(same)->Hash(), hash);
  TokenizerSpec other = spec;
  other.pre_tokenizers[0].pattern = kLlama3Pattern;
  EXPECT_NE(Make(other)->Hash(), hash);
  other = spec;
  other.added[0].lstrip = true;
  EXPECT_NE(Make(other)->Hash(), hash);
}

TEST(TokenizerTest, TheOrderOfRanksIsHashedNotTheirValues) {
  TokenizerSpec spec = AddedSpec();
  spec.tokens.insert(spec.tokens.end(), {"ab", "bc"});
  spec.merges = {{'a', 'b', 258, 10}, {'b', 'c', 259, 20}};
  const std::string hash = Make(spec)->Hash();
  TokenizerSpec same = spec;
  same.merges = {{'b', 'c', 259, 6}, {'a', 'b', 258, 7}, {'a', 'b', 258, 5}};
  EXPECT_EQ(Make(same)->Hash(), hash);
  same.merges[2].rank = 6;
  EXPECT_NE(Make(same)->Hash(), hash);
}

TEST(TokenizerTest, RefusesSpecsThatContradictThemselves) {
  const auto error_of = [](TokenizerSpec spec) {
    const auto tokenizer = Tokenizer::Create(std::move(spec));
    return tokenizer.ok() ? "" : std::string(tokenizer.status().message());
  };
  EXPECT_EQ(error_of(AddedSpec()), "");
  TokenizerSpec spec = AddedSpec();
  spec.end_of_text = 300;
  EXPECT_EQ(error_of(spec), "the token that ends a text is 300, which is no token: there are 258");
  spec = AddedSpec();
  spec.byte_tokens = {1, 2};
  EXPECT_EQ(error_of(spec), "tokens for 2 of the 256 bytes");
  spec = AddedSpec();
  spec.added[0].id = -1;
  EXPECT_NE(error_of(spec).find("added token \"<s>\" is -1"), std::string::npos);
  spec = AddedSpec();
  spec.pre_tokenizers[0].pattern = "(a";
  EXPECT_NE(error_of(spec), "");
}

TEST(TokenizerTest, AddedTokensMayLieBeyondTheVocabulary) {
  TokenizerSpec spec = AddedSpec();
  spec.added.push_back({.id = 300, .text = "<far>"});
  const auto tokenizer = Make(spec);
  EXPECT_EQ(tokenizer->vocab_size(), 301);
  EXPECT_EQ(Encode(*tokenizer, "<far>"), (Tokens{300}));
  EXPECT_EQ(tokenizer->Decode({300, 299, 301, -1}, false), "<far>");
}

}  // namespace
}  // namespace strake
