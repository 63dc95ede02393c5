#include "data/tokenizer/formats/open_tokenizer.h"

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/testing/temp_directory.h"
#include "data/tokenizer/formats/sentencepiece_reader.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/word_cache.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TempDirectory;
using testing::WriteFile;

const std::string kTestData = "data/tokenizer/formats/testdata/";

std::string TestFile(const std::string& name) { return testing::ReadFile(kTestData + name); }

// A byte-level tokenizer.json of three tokens and one merge.
json SmallTokenizerJson() {
  return json::parse(R"({
    "version": "1.0", "truncation": null, "padding": {"strategy": "BatchLongest"},
    "added_tokens": [{"id": 3, "content": "<end>", "special": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "dropout": null, "unk_token": null,
              "vocab": {"a": 0, "Ġ": 1, "aĠ": 2}, "merges": ["a Ġ"]}})");
}

absl::StatusOr<TokenizerSpec> ReadAs(const std::string& name, const std::string& content) {
  const TempDirectory directory;
  WriteFile(directory / name, content);
  return ReadTokenizerSpec(directory / name, {});
}

std::string ErrorOf(const absl::StatusOr<TokenizerSpec>& spec) {
  return spec.ok() ? "" : std::string(spec.status().message());
}

// The error of the small tokenizer.json with a patch of RFC 7396 applied.
std::string ErrorWith(const std::string& patch) {
  json file = SmallTokenizerJson();
  file.merge_patch(json::parse(patch));
  return ErrorOf(ReadAs("tokenizer.json", JsonText(file)));
}

TEST(TokenizerJsonTest, TokensAreBytes) {
  const auto spec = ReadAs("tokenizer.json", JsonText(SmallTokenizerJson()));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->tokens, ElementsAre("a", " ", "a ", "<end>"));
  ASSERT_EQ(spec->merges.size(), 1);
  EXPECT_EQ(spec->merges[0].result, 2);
  EXPECT_TRUE(spec->byte_level);
}

TEST(TokenizerJsonTest, OtherModelsAreNamed) {
  EXPECT_THAT(ErrorWith(R"({"model": {"type": "Unigram"}})"),
              HasSubstr("tokenizer.json: model is a Unigram model"));
  EXPECT_THAT(ErrorWith(R"({"model": {"dropout": 0.1}})"), HasSubstr("\"dropout\": 0.1"));
  EXPECT_EQ(ErrorWith(R"({"model": {"dropout": 0.0}})"), "");
  EXPECT_THAT(ErrorWith(R"({"model": {"continuing_subword_prefix": "##"}})"),
              HasSubstr("continuing_subword_prefix"));
  EXPECT_EQ(ErrorWith(R"({"model": {"end_of_word_suffix": ""}})"), "");
  EXPECT_THAT(ErrorWith(R"({"model": {"end_of_word_suffix": "</w>"}})"), HasSubstr("</w>"));
  EXPECT_THAT(ErrorWith(R"({"model": {"new_option": true}})"), HasSubstr("\"new_option\""));
  EXPECT_THAT(ErrorWith(R"({"model": {"unk_token": "<unk>"}})"), HasSubstr("<unk>"));
  EXPECT_THAT(ErrorWith(R"({"model": null})"), HasSubstr("is no tokenizer"));
}

TEST(TokenizerJsonTest, ComponentsThatStrakeLacksAreNamed) {
  EXPECT_THAT(ErrorWith(R"({"normalizer": {"type": "BertNormalizer"}})"),
              HasSubstr("normalizer is of the type BertNormalizer"));
  EXPECT_THAT(ErrorWith(R"({"normalizer": {"type": "Sequence", "normalizers":
                            [{"type": "NFC"}, {"type": "StripAccents"}]}})"),
              HasSubstr("normalizer.normalizers[1] is of the type StripAccents"));
  EXPECT_THAT(ErrorWith(R"({"pre_tokenizer": {"type": "UnicodeScripts"}})"),
              HasSubstr("pre_tokenizer is of the type UnicodeScripts"));
  EXPECT_THAT(ErrorWith(R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": 7}})"),
              HasSubstr("has no list \"pretokenizers\""));
  EXPECT_THAT(ErrorWith(R"({"decoder": {"type": "WordPiece"}})"), HasSubstr("type WordPiece"));
  EXPECT_THAT(ErrorWith(R"({"post_processor": {"type": "Other"}})"), HasSubstr("type Other"));
  EXPECT_THAT(ErrorWith(R"({"decoder": {"type": "ByteLevel", "odd": 1}})"),
              HasSubstr("decoder, ByteLevel has \"odd\""));
  EXPECT_THAT(ErrorWith(R"({"decoder": {"type": null}})"), HasSubstr("has no \"type\""));
  EXPECT_THAT(ErrorWith(R"({"normalizer": {"type": "Replace", "content": "",
                            "pattern": {"Regexp": "a"}}})"),
              HasSubstr("{\"String\": ...}"));
  EXPECT_THAT(ErrorWith(R"({"pre_tokenizer": {"type": "Split", "invert": false,
                            "pattern": {"String": "a"}, "behavior": "Odd"}})"),
              HasSubstr("\"Odd\""));
}

TEST(TokenizerJsonTest, MergesMustBeOfTokens) {
  EXPECT_THAT(ErrorWith(R"({"model": {"merges": ["a Ġ", "a b"]}})"),
              HasSubstr("merges[1] is \"a b\", but the vocabulary has no token \"b\""));
  EXPECT_THAT(ErrorWith(R"({"model": {"merges": [["Ġ", "a"]]}})"), HasSubstr("no token"));
  EXPECT_THAT(ErrorWith(R"({"model": {"merges": ["a Ġ Ġ"]}})"), HasSubstr("not two tokens"));
  EXPECT_THAT(ErrorWith(R"({"model": {"merges": [7]}})"), HasSubstr("merges[0] is 7"));
  EXPECT_EQ(ErrorWith(R"({"model": {"merges": [["a", "Ġ"]]}})"), "");
  EXPECT_EQ(ErrorWith(R"({"model": {"merges": ["#version: 0.2", "a Ġ"]}})"), "");
}

TEST(TokenizerJsonTest, IdsMustBeTokensOwn) {
  EXPECT_THAT(ErrorWith(R"({"model": {"vocab": {"b": 1}}})"), HasSubstr("has too"));
  EXPECT_THAT(ErrorWith(R"({"model": {"vocab": {"b": -1}}})"), HasSubstr("the id -1"));
  EXPECT_THAT(ErrorWith(R"({"model": {"vocab": {"b": 4194304}}})"), HasSubstr("0 to 4194303"));
  EXPECT_THAT(ErrorWith(R"({"model": {"vocab": {"b": "c"}}})"), HasSubstr("the id \"c\""));
  EXPECT_THAT(ErrorWith(R"({"added_tokens": [{"id": 1, "content": "<end>"}]})"),
              HasSubstr("the added token \"<end>\" the id 1"));
  EXPECT_THAT(ErrorWith(R"({"added_tokens": [{"id": 9, "content": "a"}]})"),
              HasSubstr("its id is 0"));
  EXPECT_THAT(ErrorWith(R"({"added_tokens": [{"content": "a"}]})"), HasSubstr("the id -1"));
}

TEST(TokenizerJsonTest, ByteLevelFitsItsDecoder) {
  EXPECT_THAT(ErrorWith(R"({"pre_tokenizer": null})"), HasSubstr("decoder is ByteLevel"));
}

TEST(TokenizerJsonTest, PostProcessorsGivePrefixAndSuffix) {
  json file = SmallTokenizerJson();
  file["post_processor"] = json::parse(R"({"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<end>", "type_id": 0}}, {"Sequence": {"id": "A"}},
                 {"SpecialToken": {"id": "a", "type_id": 0}}],
      "pair": [],
      "special_tokens": {"<end>": {"id": "<end>", "ids": [3], "tokens": ["<end>"]},
                         "a": {"id": "a", "ids": [0, 1], "tokens": ["a", "b"]}}})");
  auto spec = ReadAs("tokenizer.json", JsonText(file));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->prefix, ElementsAre(3));
  EXPECT_THAT(spec->suffix, ElementsAre(0, 1));

  file["post_processor"]["special_tokens"].erase("a");
  EXPECT_THAT(ErrorOf(ReadAs("tokenizer.json", JsonText(file))),
              HasSubstr("has no ids for the special token \"a\""));

  file["post_processor"] = json::parse(R"({"type": "RobertaProcessing", "sep": ["a", 0],
      "cls": ["<end>", 3], "trim_offsets": true, "add_prefix_space": false})");
  spec = ReadAs("tokenizer.json", JsonText(file));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->prefix, ElementsAre(3));
  EXPECT_THAT(spec->suffix, ElementsAre(0));
}

TEST(VocabMergesTest, LinesAreNamed) {
  const TempDirectory directory;
  WriteFile(directory / "vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
  WriteFile(directory / "merges.txt", "#version: 0.2\r\na b\r\n");
  EXPECT_EQ(ErrorOf(ReadTokenizerSpec(directory.path(), {})), "");
  WriteFile(directory / "merges.txt", "#version: 0.2\na b\na c\n");
  const std::string expected = "merges.txt:3 is \"a c\", but the vocabulary has no token \"c\"";
  EXPECT_THAT(ErrorOf(ReadTokenizerSpec(directory.path(), {})), HasSubstr(expected));
  EXPECT_THAT(ErrorOf(ReadTokenizerSpec(directory / "merges.txt", {})), HasSubstr(expected));
  WriteFile(directory / "tokenizer_config.json", R"({"tokenizer_class": "BertTokenizer"})");
  EXPECT_THAT(ErrorOf(ReadTokenizerSpec(directory.path(), {})), HasSubstr("a \"BertTokenizer\""));
}

TEST(VocabMergesTest, GivesTheSpecOfItsConfiguration) {
  const auto spec = ReadTokenizerSpec(kTestData + "vocab_merges", {});
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto end = static_cast<int32_t>(spec->tokens.size()) - 1;
  EXPECT_EQ(spec->tokens.back(), "<|end|>");
  EXPECT_EQ(spec->end_of_text, end);
  EXPECT_EQ(spec->begin_of_text, std::nullopt);
  EXPECT_THAT(spec->suffix, ElementsAre(end));
  EXPECT_THAT(spec->prefix, IsEmpty());
}

TEST(VocabMergesTest, Gpt2sEndOfTextNeedsNoConfiguration) {
  const TempDirectory directory;
  WriteFile(directory / "encoder.json", R"({"a": 0, "<|endoftext|>": 1})");
  WriteFile(directory / "vocab.bpe", "");
  const auto spec = ReadTokenizerSpec(directory / "encoder.json", {});
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->end_of_text, 1);
  ASSERT_EQ(spec->added.size(), 1);
  EXPECT_TRUE(spec->added[0].special);
}

TEST(TokenizerConfigTest, TokensByTextGoBeforeTokensById) {
  const auto spec = ReadTokenizerSpec(kTestData + "llama3", {});
  ASSERT_TRUE(spec.ok()) << spec.status();
  ASSERT_TRUE(spec->end_of_text.has_value());
  EXPECT_EQ(spec->tokens[*spec->end_of_text], "<|end|>");
  EXPECT_EQ(spec->begin_of_text, spec->end_of_text);
  EXPECT_THAT(spec->prefix, ElementsAre(*spec->end_of_text));

  const TempDirectory directory;
  WriteFile(directory / "tokenizer.json", JsonText(SmallTokenizerJson()));
  WriteFile(directory / "config.json", R"({"eos_token_id": 7})");
  auto small = ReadTokenizerSpec(directory.path(), {});
  ASSERT_TRUE(small.ok()) << small.status();
  EXPECT_EQ(small->end_of_text, std::nullopt) << "7 is no token";
  WriteFile(directory / "generation_config.json", R"({"eos_token_id": [2, 0]})");
  small = ReadTokenizerSpec(directory.path(), {});
  ASSERT_TRUE(small.ok()) << small.status();
  EXPECT_EQ(small->end_of_text, 2);
  WriteFile(directory / "tokenizer_config.json", R"({"eos_token": "<end>", "chat_template": []})");
  small = ReadTokenizerSpec(directory.path(), {});
  ASSERT_TRUE(small.ok()) << small.status();
  EXPECT_EQ(small->end_of_text, 3);
}

TEST(TokenizerConfigTest, ErrorsNameFileAndKey) {
  const TempDirectory directory;
  WriteFile(directory / "tokenizer.json", JsonText(SmallTokenizerJson()));
  WriteFile(directory / "tokenizer_config.json", R"({"eos_token": "</s>"})");
  EXPECT_THAT(ErrorOf(ReadTokenizerSpec(directory.path(), {})),
              HasSubstr("tokenizer_config.json has \"eos_token\": \"</s>\", which is no token"));
  WriteFile(directory / "tokenizer_config.json", R"({"eos_token": 3})");
  EXPECT_THAT(ErrorOf(ReadTokenizerSpec(directory.path(), {})),
              HasSubstr("tokenizer_config.json has \"eos_token\": 3"));
  WriteFile(directory / "tokenizer_config.json", R"({"eos_token")");
  EXPECT_THAT(ErrorOf(ReadTokenizerSpec(directory.path(), {})),
              HasSubstr("tokenizer_config.json: bad JSON"));
}

TEST(TokenizerConfigTest, AddsTokensToFormatsThatLackThem) {
  const TempDirectory directory;
  WriteFile(directory / "tokenizer.model", TestFile("sentencepiece/tokenizer.model"));
  WriteFile(directory / "tokenizer_config.json", R"({"eos_token": "<|turn|>",
      "add_bos_token": false, "add_eos_token": true,
      "added_tokens_decoder": {"1": {"content": "<s>", "special": true},
                               "2": {"content": "<new>", "special": true},
                               "600": {"content": "<|turn|>", "special": true}}})");
  const auto spec = ReadTokenizerSpec(directory.path(), {});
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->tokens.size(), 601);
  EXPECT_EQ(spec->tokens[2], "<new>");
  EXPECT_EQ(spec->end_of_text, 600);
  EXPECT_EQ(spec->begin_of_text, 1);
  EXPECT_THAT(spec->prefix, IsEmpty());
  EXPECT_THAT(spec->suffix, ElementsAre(600));

  WriteFile(directory / "tokenizer_config.json",
            R"({"added_tokens_decoder": {"499": {"content": "<new>", "special": true}}})");
  EXPECT_THAT(ErrorOf(ReadTokenizerSpec(directory.path(), {})),
              HasSubstr("the added token \"<new>\" the id 499, which is"));
  WriteFile(directory / "tokenizer_config.json", "{}");
  WriteFile(directory / "added_tokens.json", R"({"<|turn|>": 600, "<other>": "x"})");
  EXPECT_THAT(ErrorOf(ReadTokenizerSpec(directory.path(), {})), HasSubstr("added_tokens.json has"));
}

TEST(TiktokenTest, LinesAreNamed) {
  const auto ranks_of = [](absl::string_view text) {
    return ErrorOf(ReadAs("a.tiktoken", std::string(text)));
  };
  EXPECT_THAT(ranks_of("YQ== 0\nYg== 1\nYg 2 3\n"), HasSubstr("a.tiktoken:3: is no token"));
  EXPECT_THAT(ranks_of("YQ== 0\n!! 1\n"), HasSubstr("a.tiktoken:2: is no token"));
  EXPECT_THAT(ranks_of("YQ== 0\nYg== 0\n"), HasSubstr("a.tiktoken:2: has the rank 0 once more"));
  EXPECT_THAT(ranks_of("YQ== 0\nYg== 4194304\n"), HasSubstr("a.tiktoken:2: has the rank 4194304"));
  EXPECT_THAT(ranks_of("YQ== 0\nYg== -1\n"), HasSubstr("a.tiktoken:2: has the rank -1"));
}

TEST(TiktokenTest, UnknownFilesNeedAnExpression) {
  const std::string path = kTestData + "tiktoken/ranks.tiktoken";
  const auto without = ReadTokenizerSpec(path, {});
  EXPECT_EQ(without.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(ErrorOf(without), HasSubstr("SHA-256"));
  EXPECT_TRUE(ReadTokenizerSpec(path, {"\\w+|\\W"}).ok());
}

TEST(TiktokenTest, EachByteIsAToken) {
  std::string text = TestFile("tiktoken/ranks.tiktoken");
  const std::string line = "YQ== 97\n";
  ASSERT_NE(text.find(line), std::string::npos);
  const TempDirectory directory;
  std::string without = text;
  without.erase(without.find(line), line.size());
  WriteFile(directory / "a.tiktoken", without);
  EXPECT_THAT(ErrorOf(ReadTokenizerSpec(directory / "a.tiktoken", {"."})),
              HasSubstr("has no token for the byte 0x61"));
  WriteFile(directory / "a.tiktoken", text + "YQ== 1000\n");
  EXPECT_THAT(ErrorOf(ReadTokenizerSpec(directory / "a.tiktoken", {"."})),
              HasSubstr("the token of rank 1000, \"a\", once more"));
}

std::string TekkenErrorWith(const std::string& patch) {
  json file = json::parse(TestFile("tekken_v11/tekken.json"));
  file.merge_patch(json::parse(patch));
  return ErrorOf(ReadAs("tekken.json", JsonText(file)));
}

TEST(TekkenTest, ErrorsNameKeys) {
  EXPECT_EQ(TekkenErrorWith("{}"), "");
  EXPECT_THAT(TekkenErrorWith(R"({"config": {"version": "v99"}})"), HasSubstr("\"v99\""));
  EXPECT_THAT(TekkenErrorWith(R"({"config": {"pattern": null}})"), HasSubstr("no \"pattern\""));
  EXPECT_THAT(TekkenErrorWith(R"({"config": {"default_vocab_size": 5}})"),
              HasSubstr("\"default_vocab_size\": 5"));
  EXPECT_THAT(TekkenErrorWith(R"({"config": {"default_vocab_size": 100000}})"),
              HasSubstr("vocab is no list of 99976 tokens"));
  EXPECT_THAT(TekkenErrorWith(R"({"special_tokens": null})"), HasSubstr("special_tokens"));
  EXPECT_THAT(TekkenErrorWith(R"({"special_tokens": [{"rank": 1, "token_str": "<s>"}]})"),
              HasSubstr("special_tokens[0] has \"rank\": 1"));
  EXPECT_THAT(TekkenErrorWith(R"({"odd": 1})"), HasSubstr("\"odd\""));
}

TEST(TekkenTest, SpecialTokensComeFirst) {
  for (const char* name : {"tekken_v3", "tekken_v11"}) {
    const auto spec = ReadTokenizerSpec(kTestData + name, {});
    ASSERT_TRUE(spec.ok()) << spec.status();
    ASSERT_EQ(spec->added.size(), 24);
    EXPECT_EQ(spec->tokens[3], "[INST]");
    EXPECT_EQ(spec->tokens[23], "<SPECIAL_23>");
    EXPECT_EQ(spec->tokens[24], std::string(1, '\0'));
    EXPECT_EQ(spec->begin_of_text, 1);
    EXPECT_EQ(spec->end_of_text, 2);
    EXPECT_THAT(spec->prefix, ElementsAre(1));
  }
}

// Fields of protocol buffers' wire format.
std::string BytesField(int number, absl::string_view bytes) {
  std::string size;
  for (size_t rest = bytes.size(); rest > 0 || size.empty(); rest >>= 7) {
    size.push_back(static_cast<char>((rest & 0x7f) | (rest >= 0x80 ? 0x80 : 0)));
  }
  // Numbers above 15 have a tag of two bytes.
  std::string tag(1, static_cast<char>(((number & 15) << 3 | 2) | (number > 15 ? 0x80 : 0)));
  if (number > 15) tag.push_back(static_cast<char>(number >> 4));
  return absl::StrCat(tag, size, bytes);
}

std::string IntegerField(int number, char value) {
  std::string tag(1, static_cast<char>(((number & 15) << 3) | (number > 15 ? 0x80 : 0)));
  if (number > 15) tag.push_back(static_cast<char>(number >> 4));
  return tag + value;
}

std::string PieceField(absl::string_view text, char type) {
  return BytesField(1, BytesField(1, text) + IntegerField(3, type));
}

const std::string kBpeTrainer = BytesField(2, IntegerField(3, 2));

std::string ModelError(const std::string& model) {
  return ErrorOf(ParseSentencePieceModel(model, "a.model"));
}

TEST(SentencePieceTest, OtherModelsAreNamed) {
  const std::string piece = PieceField("a", 1);
  EXPECT_EQ(ModelError(piece + kBpeTrainer), "");
  EXPECT_THAT(ModelError(piece), HasSubstr("a.model: is a unigram model"));
  EXPECT_THAT(ModelError(piece + BytesField(2, IntegerField(3, 4))),
              HasSubstr("a character model"));
  EXPECT_THAT(ModelError(kBpeTrainer), HasSubstr("has no pieces"));
  EXPECT_THAT(ModelError(piece + BytesField(2, IntegerField(3, 2) + IntegerField(24, 1))),
              HasSubstr("treat_whitespace_as_suffix"));
  EXPECT_THAT(ModelError(piece + kBpeTrainer + BytesField(5, BytesField(2, "x"))),
              HasSubstr("denormalizer"));
}

TEST(SentencePieceTest, PiecesAreChecked) {
  EXPECT_THAT(ModelError(PieceField("a", 1) + PieceField("a", 1) + kBpeTrainer),
              HasSubstr("the piece \"a\" twice"));
  EXPECT_THAT(ModelError(PieceField("a", 5) + kBpeTrainer), HasSubstr("unused piece \"a\""));
  EXPECT_THAT(ModelError(PieceField("a", 9) + kBpeTrainer),
              HasSubstr("piece 0, \"a\", has the type 9"));
  EXPECT_THAT(ModelError(PieceField("", 1) + kBpeTrainer), HasSubstr("piece 0"));
  EXPECT_THAT(ModelError(PieceField("\xff", 1) + kBpeTrainer), HasSubstr("is not UTF-8"));
  EXPECT_THAT(ModelError(PieceField("a", 1) + PieceField("ab", 1) + kBpeTrainer),
              HasSubstr("the piece \"ab\", but no piece \"b\""));
  EXPECT_THAT(
      ModelError(PieceField("a", 1) + BytesField(2, IntegerField(3, 2) + IntegerField(35, 1))),
      HasSubstr("no piece <0x00>"));
}

TEST(SentencePieceTest, BrokenMessagesAreErrorsWithTheirOffset) {
  EXPECT_THAT(ModelError("\x0a\x7f"
                         "abc"),
              HasSubstr("byte 2: a field has 127 bytes"));
  EXPECT_THAT(ModelError("\x0b"), HasSubstr("wire type 3"));
  EXPECT_THAT(ModelError("\x08\x80"), HasSubstr("a number does not end"));
  EXPECT_THAT(ModelError(std::string(20, '\xff')), HasSubstr("a number does not end"));
  EXPECT_THAT(ModelError("\x0a\x03\x0a\x05"
                         "a"),
              HasSubstr("byte 4: a field has 5 bytes"));
  // Any part of a real file, too.
  const std::string model = TestFile("sentencepiece/tokenizer.model");
  for (size_t size = 0; size < model.size(); size += 97) {
    EXPECT_NE(ModelError(model.substr(0, size)), "") << size;
  }
}

TEST(SentencePieceTest, RolesComeFromTheModel) {
  const auto spec = ReadTokenizerSpec(kTestData + "sentencepiece", {});
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->begin_of_text, 1);
  EXPECT_EQ(spec->end_of_text, 2);
  EXPECT_EQ(spec->unknown, 0);
  EXPECT_EQ(spec->byte_tokens.size(), 256);
  EXPECT_THAT(spec->prefix, ElementsAre(1));
}

TEST(OpenTokenizerTest, DirectoriesAreSearched) {
  const TempDirectory directory;
  EXPECT_FALSE(HoldsTokenizer(directory.path()));
  EXPECT_THAT(ErrorOf(ReadTokenizerSpec(directory.path(), {})), HasSubstr("holds no tokenizer"));
  EXPECT_THAT(ErrorOf(ReadTokenizerSpec(directory / "absent", {})),
              HasSubstr("absent: there is no"));
  WriteFile(directory / "tokenizer.model.v3", TestFile("sentencepiece/tokenizer.model"));
  EXPECT_TRUE(HoldsTokenizer(directory.path()));
  EXPECT_EQ(ErrorOf(ReadTokenizerSpec(directory.path(), {})), "");
  WriteFile(directory / "tekken_240718.json", TestFile("tekken_v3/tekken.json"));
  EXPECT_THAT(ErrorOf(ReadTokenizerSpec(directory.path(), {})),
              HasSubstr("holds several tokenizers, tekken_240718.json, tokenizer.model.v3"));
  WriteFile(directory / "tokenizer.json", JsonText(SmallTokenizerJson()));
  const auto spec = ReadTokenizerSpec(directory.path(), {});
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->tokens.size(), 4);
}

TEST(OpenModelTokenizerTest, TheUsersCountsThenTheFirstFolders) {
  const TempDirectory model, other;
  const auto size = [](const ModelTokenizerPlaces& places, int64_t vocab_size) -> int64_t {
    const auto tokenizer = OpenModelTokenizer(places, vocab_size, {});
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return tokenizer.ok() && *tokenizer != nullptr ? (*tokenizer)->vocab_size() : 0;
  };
  EXPECT_EQ(size({.directories = {"", model.path()}}, 300), 0);
  EXPECT_EQ(size({.directories = {"", model.path()}}, 256), 256) << "bytes";
  WriteFile(other / "tokenizer.model", TestFile("sentencepiece/tokenizer.model"));
  const int64_t num_pieces = size({.given = other.path()}, 1 << 20);
  EXPECT_GT(num_pieces, 256);
  WriteFile(model / "tokenizer.json", JsonText(SmallTokenizerJson()));
  EXPECT_EQ(size({.directories = {"", model.path(), other.path()}}, num_pieces), 4);
  EXPECT_EQ(size({.given = other.path(), .directories = {model.path()}}, num_pieces), num_pieces);
}

TEST(OpenModelTokenizerTest, ErrorsNameThePlace) {
  const TempDirectory model;
  WriteFile(model / "tokenizer.json", JsonText(SmallTokenizerJson()));
  const auto open = [&](const std::string& given, int64_t vocab_size) {
    const auto opened =
        OpenModelTokenizer({.given = given, .directories = {model.path()}}, vocab_size, {});
    return std::string(opened.status().message());
  };
  EXPECT_THAT(open("", 3),
              HasSubstr(model.path() + ": the tokenizer has 4 tokens, and the model 3;"));
  EXPECT_THAT(open(model / "absent", 256), HasSubstr("absent: there is no such tokenizer"));
}

TEST(OpenTokenizerTest, JsonThatIsNoTokenizerIsAnError) {
  EXPECT_THAT(ErrorOf(ReadAs("a.json", R"({"a": 1})")), HasSubstr("a.json: is no tokenizer"));
  EXPECT_THAT(ErrorOf(ReadAs("a.json", R"({"a": )")), HasSubstr("a.json: bad JSON"));
  for (const std::string text : {"", "# Read me\n", "[1, 2]", "GGUF"}) {
    EXPECT_THAT(ErrorOf(ReadAs("a.model", text)), HasSubstr("a.model: is no tokenizer: neither"));
  }
}

TEST(OpenTokenizerTest, BytesAreTokensThemselves) {
  const auto tokenizer = Tokenizer::Create(ByteTokenizerSpec());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 256);
  WordCache cache;
  std::vector<int32_t> tokens;
  (*tokenizer)->Encode("a\xc3\xa9\xff ", &cache, &tokens);
  EXPECT_THAT(tokens, ElementsAre('a', 0xc3, 0xa9, 0xff, ' '));
  EXPECT_EQ((*tokenizer)->Decode(tokens, /*skip_special=*/false), "a\xc3\xa9\xff ");
}

}  // namespace
}  // namespace strake
