#include "data/text/prepare.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/philox.h"
#include "core/testing/temp_directory.h"
#include "data/chat/chat_encoder.h"
#include "data/chat/chat_format.h"
#include "data/chat/conversation.h"
#include "data/document_index.h"
#include "data/target_ranges.h"
#include "data/text/compress.h"
#include "data/token_file.h"
#include "data/tokenizer/library_versions.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::Gzip;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::ReadFile;
using testing::TempDirectory;
using testing::WriteFile;
using testing::Zstd;

constexpr int32_t kEndOfText = 259, kBegin = 260;

// Bytes, "th", "he" and " t" as merges, GPT-2's splits, an end of text, and a prefix.
std::unique_ptr<const Tokenizer> SmallTokenizer() {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) {
    spec.tokens.push_back(std::string(1, static_cast<char>(byte)));
  }
  const auto merge = [&](char left, char right) {
    const auto id = static_cast<int32_t>(spec.tokens.size());
    spec.tokens.push_back({left, right});
    spec.merges.push_back({static_cast<unsigned char>(left), static_cast<unsigned char>(right), id,
                           static_cast<int64_t>(spec.merges.size())});
  };
  merge('t', 'h');
  merge('h', 'e');
  merge(' ', 't');
  for (const char* special : {"<|end|>", "<|begin|>"}) {
    spec.added.push_back(
        {.id = static_cast<int32_t>(spec.tokens.size()), .text = special, .special = true});
    spec.tokens.emplace_back(special);
  }
  spec.prefix = {kBegin};
  PreTokenizer split;
  split.pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
  spec.pre_tokenizers.push_back(split);
  auto tokenizer = Tokenizer::Create(spec);
  CHECK(tokenizer.ok()) << tokenizer.status();
  return std::move(*tokenizer);
}

// The text of about so many bytes that belongs to a number.
std::string Text(uint64_t number, size_t size) {
  const Philox random(number, RandomUse::kTesting, 0);
  const std::vector<std::string> words = {"the",     "three", "Grüße",  "it's", "12",
                                          "日本語",  "\n",    "tthhee", "x",    "...",
                                          "<|end|>", "\r\n",  "  "};
  std::string text = "text";
  for (uint64_t i = 0; text.size() < size; ++i) text += " " + words[random.Bits(i) % words.size()];
  return text;
}

std::string JsonLines(uint64_t number, int num_lines) {
  std::string lines;
  for (int i = 0; i < num_lines; ++i) {
    absl::StrAppend(&lines, R"({"id": )", i, R"(, "text": "line )", number, " ", i,
                    std::string(i % 97, 't'), " h\\u00e9", "\"}\n");
  }
  return lines;
}

// Relative name -> content, but for the record, whose times and paths differ.
std::map<std::string, std::string> Tree(const std::string& directory) {
  std::map<std::string, std::string> tree;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    tree[name] = name == "prepared.json" ? "" : ReadFile(entry.path().string());
  }
  return tree;
}

class PrepareTest : public ::testing::Test {
 protected:
  // Files of all kinds, of several pieces, batches and token files.
  PrepareOptions SomeFiles(const std::string& out) const {
    WriteFile(directory_ / "a.txt", Text(1, 1500000));
    WriteFile(directory_ / "b.jsonl.gz", Gzip(JsonLines(2, 4000)));
    WriteFile(directory_ / "c.md.zst", Zstd(Text(3, 700000)));
    WriteFile(directory_ / "d.jsonl", JsonLines(4, 3000));
    WriteFile(directory_ / "e.txt", "the last");
    return Options({"a.txt", "b.jsonl.gz", "c.md.zst", "d.jsonl", "e.txt"}, out);
  }
  PrepareOptions Options(const std::vector<std::string>& names, const std::string& out) const {
    PrepareOptions options;
    for (const std::string& name : names) options.files.push_back(directory_ / name);
    options.directory = directory_ / out;
    options.end_of_text = kEndOfText;
    options.max_file_tokens = 300000;
    return options;
  }
  absl::StatusOr<PreparedTokens> Prepare(const PrepareOptions& options) const {
    return PrepareTokens(*tokenizer_, options);
  }
  std::string Message(const PrepareOptions& options) const {
    const auto result = Prepare(options);
    EXPECT_FALSE(result.ok());
    EXPECT_FALSE(fs::exists(options.directory)) << options.directory;
    EXPECT_FALSE(fs::exists(options.directory + ".unfinished"));
    return std::string(result.status().message());
  }
  std::vector<int32_t> Encoded(const std::string& text) const {
    WordCache cache;
    std::vector<int32_t> tokens = {kBegin};
    tokenizer_->Encode(text, &cache, &tokens);
    tokens.push_back(kEndOfText);
    return tokens;
  }
  static std::vector<int32_t> Tokens(const std::string& path) {
    const auto file = TokenFile::Open(path, 1 << 20);
    CHECK(file.ok()) << file.status();
    std::vector<int32_t> tokens(file->num_tokens());
    file->ReadUnchecked(0, file->num_tokens(), tokens.data());
    return tokens;
  }

  const TempDirectory directory_;
  const std::unique_ptr<const Tokenizer> tokenizer_ = SmallTokenizer();
};

TEST_F(PrepareTest, TokensAndDocuments) {
  WriteFile(directory_ / "a.txt", "\xef\xbb\xbfthe <|end|> text\r\n");
  WriteFile(directory_ / "b.jsonl", "{\"text\": \"one\"}\n{\"text\": \"the\\ntwo\"}\n");
  const auto result = Prepare(Options({"a.txt", "b.jsonl"}, "out"));
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_THAT(result->token_files, ElementsAre(directory_ / "out/tokens-00000.bin"));
  std::vector<int32_t> expected = Encoded("the <|end|> text\r\n");
  const auto second = static_cast<int64_t>(expected.size());
  for (const int32_t token : Encoded("one")) expected.push_back(token);
  const auto third = static_cast<int64_t>(expected.size());
  for (const int32_t token : Encoded("the\ntwo")) expected.push_back(token);
  EXPECT_EQ(Tokens(result->token_files[0]), expected);
  EXPECT_EQ(result->num_tokens, expected.size());
  EXPECT_EQ(result->num_documents, 3);
  EXPECT_EQ(result->num_text_bytes, 18 + 3 + 7);
  EXPECT_FALSE(result->reused);

  const auto index = ReadDocumentIndex(result->token_files[0], result->num_tokens);
  ASSERT_TRUE(index.ok() && index->has_value()) << index.status();
  EXPECT_EQ((*index)->tokenizer_hash, tokenizer_->Hash());
  EXPECT_EQ((*index)->vocab_size, tokenizer_->vocab_size());
  EXPECT_EQ((*index)->end_of_text, kEndOfText);
  EXPECT_EQ((*index)->num_text_bytes, 28);
  EXPECT_THAT((*index)->sources, ElementsAre(directory_ / "a.txt", directory_ / "b.jsonl"));
  EXPECT_TRUE((*index)->documents ==
              (std::vector<DocumentIndex::Document>{{0, 3, 0}, {second, 0, 1}, {third, 16, 1}}));
}

std::string ChatLines(uint64_t number, int num_lines) {
  std::string lines;
  for (int i = 0; i < num_lines; ++i) {
    absl::StrAppend(&lines, R"({"messages": [{"role": "user", "content": "ask )", number, " ", i,
                    R"("}, {"role": "assistant", "content": "the h\u00e9 )",
                    std::string(i % 97, 't'), "\"}]}\n");
  }
  return lines;
}

// By a format whose tokens the small tokenizer gets.
class PrepareChatTest : public PrepareTest {
 protected:
  PrepareChatTest() {
    TokenizerSpec spec = tokenizer_->spec();
    for (const char* text : {"<|im_start|>", "<|im_end|>"}) {
      spec.added.push_back(
          {.id = static_cast<int32_t>(spec.tokens.size()), .text = text, .special = true});
      spec.tokens.emplace_back(text);
    }
    spec.begin_of_text = kBegin;
    spec.end_of_text = kEndOfText;
    chat_tokenizer_ = Tokenizer::Create(spec).value();
    encoder_.emplace(Encoder(FindChatFormat("chatml").value()));
  }
  ChatEncoder Encoder(const ChatFormat* format) const {
    return ChatEncoder::Create(format, chat_tokenizer_.get(), "").value();
  }
  PrepareOptions ChatOptions(const std::vector<std::string>& names, const std::string& out) const {
    PrepareOptions options = Options(names, out);
    options.chat = &*encoder_;
    return options;
  }
  absl::StatusOr<PreparedTokens> PrepareChat(const PrepareOptions& options) const {
    return PrepareTokens(*chat_tokenizer_, options);
  }
  static std::vector<TokenRange> Answers(const std::string& path) {
    const auto targets = ReadTargetRanges(path, Tokens(path).size());
    CHECK(targets.ok() && targets->has_value()) << targets.status();
    return (*targets)->ranges;
  }

  std::unique_ptr<const Tokenizer> chat_tokenizer_;
  std::optional<ChatEncoder> encoder_;
};

TEST_F(PrepareChatTest, TokensAndAnswers) {
  const std::string first = ChatLines(7, 1);
  WriteFile(directory_ / "a.jsonl",
            first + "\n" + R"({"prompt": "the", "completion": "th"})" + "\n");
  const auto result = PrepareChat(ChatOptions({"a.jsonl"}, "out"));
  ASSERT_TRUE(result.ok()) << result.status();
  WordCache cache;
  ChatTokens expected =
      encoder_->Encode(ParseConversation(absl::StripSuffix(first, "\n")).value(), &cache).value();
  const auto second = static_cast<int64_t>(expected.tokens.size());
  // The tokenizer's prefix, "th" and "e", the answer "th", and the end of text.
  for (const int32_t token : {kBegin, 256, int32_t{'e'}, 256, kEndOfText}) {
    expected.tokens.push_back(token);
  }
  const std::string path = result->token_files[0];
  EXPECT_EQ(Tokens(path), expected.tokens);
  const std::vector<TokenRange> answers = Answers(path);
  ASSERT_EQ(answers.size(), 2);
  for (int64_t i = 0; i < second; ++i) {
    EXPECT_EQ(expected.is_answer[i], answers[0].begin <= i && i < answers[0].end) << i;
  }
  EXPECT_EQ(answers[1], (TokenRange{second + 3, second + 5}));
  EXPECT_EQ(result->num_answer_tokens, answers[0].num_tokens() + 2);
  const auto index = ReadDocumentIndex(path, result->num_tokens);
  ASSERT_TRUE(index.ok() && index->has_value()) << index.status();
  EXPECT_EQ((*index)->end_of_text, -1);
  EXPECT_TRUE((*index)->has_targets);
  const auto second_line = static_cast<int64_t>(first.size()) + 1;
  EXPECT_TRUE((*index)->documents ==
              (std::vector<DocumentIndex::Document>{{0, 0, 0}, {second, second_line, 0}}));
}

TEST_F(PrepareChatTest, SameBytesForAnyNumberOfThreadsAndAfterAStop) {
  WriteFile(directory_ / "a.jsonl", ChatLines(1, 5000));
  WriteFile(directory_ / "b.jsonl.zst", Zstd("{\"messages\": 3}\n" + ChatLines(2, 3000) + "{}\n"));
  const auto options = [&](const std::string& out) {
    PrepareOptions of_both = ChatOptions({"a.jsonl", "b.jsonl.zst"}, out);
    of_both.documents.skip_bad_lines = true;
    return of_both;
  };
  const auto one = PrepareChat(options("1"));
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->num_bad_lines, 2);
  EXPECT_THAT(one->first_bad_line, HasSubstr("b.jsonl.zst: line 1, column 14"));
  EXPECT_EQ(one->num_documents, 8000);
  ASSERT_GE(one->token_files.size(), 3u);
  PrepareOptions many = options("8");
  many.threads = 8;
  ASSERT_TRUE(PrepareChat(many).ok());
  EXPECT_TRUE(Tree(many.directory) == Tree(directory_ / "1"));

  PrepareOptions stopped = options("stopped");
  bool stop = false;
  stopped.on_progress = [&](const PrepareOptions::Progress& now) { stop = now.tokens > 400000; };
  stopped.stop_requested = [&] { return stop; };
  EXPECT_TRUE(absl::IsCancelled(PrepareChat(stopped).status()));
  EXPECT_TRUE(fs::exists(stopped.directory + ".unfinished/tokens-00000.targets"));
  stopped.on_progress = {};
  stopped.stop_requested = {};
  const auto resumed = PrepareChat(stopped);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_GT(resumed->num_resumed_tokens, 0);
  EXPECT_EQ(resumed->num_bad_lines, 2);
  EXPECT_EQ(resumed->num_answer_tokens, one->num_answer_tokens);
  EXPECT_TRUE(Tree(stopped.directory) == Tree(directory_ / "1"));
}

TEST_F(PrepareChatTest, DamagedAnswersAreFound) {
  WriteFile(directory_ / "a.jsonl", ChatLines(1, 3));
  const PrepareOptions options = ChatOptions({"a.jsonl"}, "out");
  ASSERT_TRUE(PrepareChat(options).ok());
  EXPECT_TRUE(PrepareChat(options)->reused);
  const auto error = [&] { return std::string(PrepareChat(options).status().message()); };
  const std::string tokens = directory_ / "out/tokens-00000.bin", path = TargetRangesPath(tokens);
  const std::string targets = ReadFile(path);
  WriteFile(path, targets.substr(0, targets.size() - 1));
  EXPECT_THAT(error(), AllOf(HasSubstr("is damaged"), HasSubstr("tokens-00000.targets")));
  fs::remove(path);
  EXPECT_THAT(error(), HasSubstr("it lacks tokens"));
  TargetRanges other;
  other.num_tokens = static_cast<int64_t>(Tokens(tokens).size());
  ASSERT_TRUE(WriteTargetRanges(tokens, other).ok());
  EXPECT_THAT(error(), HasSubstr("other answers"));
  PrepareOptions replaced = options;
  replaced.replace_damaged = true;
  ASSERT_TRUE(PrepareChat(replaced).ok());
  EXPECT_EQ(ReadFile(path), targets);
}

TEST_F(PrepareChatTest, TheFormatIsPartOfACachesKey) {
  WriteFile(directory_ / "a.jsonl", ChatLines(1, 3));
  const auto folder = [&](const char* format) {
    const ChatEncoder encoder = Encoder(FindChatFormat(format).value());
    PrepareOptions options = ChatOptions({"a.jsonl"}, "");
    options.chat = &encoder;
    return PreparedDirectory(directory_ / "cache", *chat_tokenizer_, options).value();
  };
  EXPECT_EQ(folder("chatml"), folder("chatml"));
  EXPECT_NE(folder("chatml"), folder("qwen2"));
}

TEST_F(PrepareChatTest, ErrorsNameFileLineAndColumn) {
  const std::string user = R"({"role": "user", "content": "a"})";
  const std::string answer = R"({"role": "assistant", "content": "b"})";
  const auto message = [&](const std::string& messages) {
    WriteFile(directory_ / "a.jsonl", ChatLines(1, 1) + "{\"messages\": [" + messages + "]}");
    PrepareOptions options = ChatOptions({"a.jsonl"}, "out");
    options.documents.name_of_skip_bad_lines = "--skip_bad_lines";
    const auto result = PrepareChat(options);
    EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << result.status();
    EXPECT_FALSE(fs::exists(options.directory + ".unfinished"));
    return std::string(result.status().message());
  };
  EXPECT_THAT(message(user),
              AllOf(HasSubstr("a.jsonl: line 2, column 15: the conversation ends with a message of "
                              "the user, so there is no answer"),
                    HasSubstr("give --skip_bad_lines")));
  EXPECT_THAT(message(user + R"(, {"role": "assistant", "content": " "})"),
              AllOf(HasSubstr("a.jsonl: line 2, column "),
                    HasSubstr("message 2 of \"messages\" is an empty answer")));
  EXPECT_THAT(
      message(R"({"role": "tool", "content": "a"})"),
      HasSubstr("a.jsonl: line 2, column 24: message 1 of \"messages\" has the role \"tool\""));
  // A role that the format lacks, as a line that is none.
  encoder_.emplace(Encoder(FindChatFormat("llama2").value()));
  EXPECT_THAT(message(user + ", " + user + ", " + answer),
              HasSubstr("a.jsonl: line 2, column 49: message 2, of the user: the chat format "
                        "llama2 has user and assistant take turns"));
  encoder_.emplace(Encoder(FindChatFormat("mistral-v0.2").value()));
  EXPECT_THAT(message(R"({"role": "system", "content": "a"}, )" + user + ", " + answer),
              AllOf(HasSubstr("a.jsonl: line 2, column "), HasSubstr("has no role system")));
  encoder_.emplace(Encoder(nullptr));
  EXPECT_THAT(message(user + ", " + answer),
              HasSubstr("line 1: messages need a chat format; choose one of chatml"));
}

TEST_F(PrepareTest, WithoutPrefixAndEndOfText) {
  WriteFile(directory_ / "a.txt", "the");
  PrepareOptions options = Options({"a.txt"}, "out");
  options.end_of_text = -1;
  options.prefix = false;
  ASSERT_TRUE(Prepare(options).ok());
  EXPECT_THAT(Tokens(directory_ / "out/tokens-00000.bin"), ElementsAre(256, 'e'));
}

// Encodes each document whole, and compares with what came of the pieces.
TEST_F(PrepareTest, PiecesHaveTheTokensOfTheWhole) {
  PrepareOptions options = SomeFiles("out");
  options.max_file_tokens = 1'000'000'000;
  const auto result = Prepare(options);
  ASSERT_TRUE(result.ok()) << result.status();
  const std::vector<int32_t> tokens = Tokens(result->token_files[0]);
  std::vector<int32_t> expected = Encoded(Text(1, 1500000));
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), tokens.begin()));
  const auto index = ReadDocumentIndex(result->token_files[0], result->num_tokens);
  const DocumentIndex::Document markdown = (*index)->documents[1 + 4000];
  EXPECT_EQ((*index)->sources[markdown.source], directory_ / "c.md.zst");
  expected = Encoded(Text(3, 700000));
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), tokens.begin() + markdown.begin));
  EXPECT_EQ(result->num_documents, 1 + 4000 + 1 + 3000 + 1);
}

TEST_F(PrepareTest, SameBytesForAnyNumberOfThreads) {
  ASSERT_TRUE(Prepare(SomeFiles("1")).ok());
  const auto one = Tree(directory_ / "1");
  ASSERT_GE(one.size(), 8u);  // several token files
  for (const int threads : {2, 3, 8}) {
    PrepareOptions options = SomeFiles(std::to_string(threads));
    options.threads = threads;
    ASSERT_TRUE(Prepare(options).ok());
    EXPECT_TRUE(Tree(options.directory) == one) << threads;
  }
}

TEST_F(PrepareTest, FilesEndWithDocumentsWhereTheyCan) {
  PrepareOptions options = SomeFiles("out");
  const auto result = Prepare(options);
  ASSERT_TRUE(result.ok()) << result.status();
  std::vector<int32_t> all;
  int64_t num_documents = 0;
  for (const std::string& path : result->token_files) {
    const std::vector<int32_t> tokens = Tokens(path);
    EXPECT_LE(tokens.size(), 2 * options.max_file_tokens);
    const auto index = ReadDocumentIndex(path, tokens.size());
    ASSERT_TRUE(index.ok() && index->has_value()) << index.status();
    EXPECT_EQ((*index)->documents[0].begin, 0);
    num_documents += (*index)->documents.size();
    all.insert(all.end(), tokens.begin(), tokens.end());
  }
  // The first text alone is longer than twice the limit: its parts are documents of their own.
  EXPECT_NE(Tokens(result->token_files[0]).back(), kEndOfText);
  EXPECT_GT(num_documents, result->num_documents);
  options = SomeFiles("one file");
  options.max_file_tokens = 1'000'000'000;
  ASSERT_TRUE(Prepare(options).ok());
  EXPECT_TRUE(Tokens(directory_ / "one file/tokens-00000.bin") == all);
}

TEST_F(PrepareTest, APieceIsInOneFile) {
  WriteFile(directory_ / "a.txt", Text(1, 100000));
  PrepareOptions options = Options({"a.txt"}, "out");
  options.max_file_tokens = 1;
  const auto result = Prepare(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->token_files.size(), 1u);
}

TEST_F(PrepareTest, FilesAreSmallEnoughToBeKeptOnTheWay) {
  EXPECT_EQ(PrepareOptions().max_file_tokens, 100'000'000);  // as llm.c's shards
}

TEST_F(PrepareTest, LargeVocabulariesTakeFourBytes) {
  TokenizerSpec spec = tokenizer_->spec();
  spec.tokens.resize(65537);
  spec.tokens[65536] = "<|far|>";
  spec.added.push_back({.id = 65536, .text = "<|far|>", .special = true});
  const auto tokenizer = Tokenizer::Create(spec);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  WriteFile(directory_ / "a.txt", "the<|far|>");
  ASSERT_TRUE(PrepareTokens(**tokenizer, Options({"a.txt"}, "out")).ok());
  EXPECT_THAT(Tokens(directory_ / "out/tokens-00000.bin"),
              ElementsAre(kBegin, 256, 'e', 65536, kEndOfText));
}

TEST_F(PrepareTest, AnEqualCallReuses) {
  PrepareOptions options = SomeFiles("out");
  const auto first = Prepare(options);
  ASSERT_TRUE(first.ok()) << first.status();
  const auto tree = Tree(options.directory);
  const auto time = fs::last_write_time(directory_ / "out/tokens-00000.bin");
  options.threads = 2;
  const auto second = Prepare(options);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->reused);
  EXPECT_EQ(second->token_files, first->token_files);
  EXPECT_EQ(second->num_tokens, first->num_tokens);
  EXPECT_EQ(second->num_documents, first->num_documents);
  EXPECT_EQ(second->num_text_bytes, first->num_text_bytes);
  EXPECT_TRUE(Tree(options.directory) == tree);
  EXPECT_EQ(fs::last_write_time(directory_ / "out/tokens-00000.bin"), time);
  EXPECT_FALSE(fs::exists(options.directory + ".unfinished"));
}

TEST_F(PrepareTest, ADirectoryWithSomethingElseIsLeftAlone) {
  WriteFile(directory_ / "a.jsonl", "{\"text\": \"the\", \"body\": \"three\"}\n");
  PrepareOptions options = Options({"a.jsonl"}, "out");
  ASSERT_TRUE(Prepare(options).ok());
  const auto tree = Tree(options.directory);
  const auto message = [&] {
    const auto result = Prepare(options);
    EXPECT_TRUE(absl::IsFailedPrecondition(result.status())) << result.status();
    return std::string(result.status().message());
  };
  options.documents.field = "body";
  EXPECT_THAT(message(),
              AllOf(HasSubstr("out: was prepared with other settings"), HasSubstr("field \"text\""),
                    HasSubstr("field \"body\""), HasSubstr(TokenizerLibraryVersions())));
  options.documents.field = "text";
  WriteFile(directory_ / "a.jsonl", "{\"text\": \"tho\", \"body\": \"three\"}\n");
  EXPECT_THAT(message(), HasSubstr("out: was prepared from other files"));
  EXPECT_TRUE(Tree(options.directory) == tree);
  fs::create_directory(directory_ / "mine");
  WriteFile(directory_ / "mine/thesis.txt", "the");
  options.directory = directory_ / "mine";
  EXPECT_THAT(message(), HasSubstr("mine: holds files that are no result"));
  options.directory = directory_ / "a.jsonl";
  EXPECT_THAT(message(), HasSubstr("is no folder"));
}

TEST_F(PrepareTest, DamageIsAnErrorOrReplaced) {
  WriteFile(directory_ / "a.txt", "the text");
  PrepareOptions options = Options({"a.txt"}, "out");
  ASSERT_TRUE(Prepare(options).ok());
  const auto whole = Tree(options.directory);
  const std::string tokens = directory_ / "out/tokens-00000.bin",
                    documents = directory_ / "out/tokens-00000.documents",
                    record = directory_ / "out/prepared.json";
  const std::string good = ReadFile(tokens), good_documents = ReadFile(documents);
  std::string other_header = good, other_token = good, other_documents = good_documents;
  other_header[4] ^= 2;
  other_token.back() = '\x7f';
  other_documents[good_documents.size() / 2] ^= 1;
  struct Case {
    const std::string& path;
    std::string content, part;
  };
  for (const Case& damage : std::vector<Case>{
           {tokens, good.substr(0, good.size() - 2), "it lacks tokens"},
           {tokens, other_header, "its version is 3"},
           {tokens, other_token, "tokens-00000.bin: "},
           {documents, good_documents.substr(0, 50), "tokens-00000.documents: is cut off"},
           {documents, other_documents, "tokens-00000.documents: "},
           {record, ReadFile(record).substr(0, 100), "prepared.json: "},
           {record, "", "prepared.json: "},
       }) {
    WriteFile(damage.path, damage.content);
    const auto tree = Tree(options.directory);
    options.replace_damaged = false;
    const absl::Status refused = Prepare(options).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()),
                AllOf(HasSubstr("out: is damaged: "), HasSubstr(damage.part),
                      HasSubstr("choose another folder")));
    EXPECT_TRUE(Tree(options.directory) == tree) << damage.part;

    options.replace_damaged = true;
    const auto replaced = Prepare(options);
    ASSERT_TRUE(replaced.ok()) << replaced.status();
    EXPECT_THAT(replaced->replaced,
                AllOf(HasSubstr("out: is damaged: "), HasSubstr(damage.part), Not(HasSubstr(";"))));
    EXPECT_TRUE(Tree(options.directory) == whole) << damage.part;
    EXPECT_FALSE(fs::exists(options.directory + ".unfinished"));
    const auto again = Prepare(options);
    EXPECT_TRUE(again->reused);
    EXPECT_EQ(again->replaced, "");
  }
  // Without its record, as where the removal was interrupted.
  fs::remove(record);
  EXPECT_THAT(Prepare(options)->replaced, HasSubstr("no result"));

  WriteFile(tokens, "damaged");
  WriteFile(directory_ / "out/mine.txt", "mine");
  const auto tree = Tree(options.directory);
  EXPECT_THAT(std::string(Prepare(options).status().message()), HasSubstr("it lacks tokens"));
  EXPECT_TRUE(Tree(options.directory) == tree) << "it has a file of the user's";
  EXPECT_FALSE(fs::exists(options.directory + ".unfinished"));
}

TEST_F(PrepareTest, ACacheHasDamage) {
  WriteFile(directory_ / "a.txt", "the text");
  PrepareOptions options = Options({"a.txt"}, "");
  const std::string cache = directory_ / "cache";
  const auto directory = [&] { return PreparedDirectory(cache, *tokenizer_, options).value(); };
  const std::string own = options.directory = directory(), other = cache + "/other";
  ASSERT_TRUE(Prepare(options).ok());
  fs::copy(own, other);
  EXPECT_EQ(directory(), own);
  fs::resize_file(own + "/tokens-00000.bin", 5);
  EXPECT_EQ(directory(), other) << "which is whole";
  std::string documents = ReadFile(other + "/tokens-00000.documents");
  documents.back() ^= 1;
  WriteFile(other + "/tokens-00000.documents", documents);
  EXPECT_EQ(directory(), own) << "which may be replaced";
}

TEST_F(PrepareTest, AnEmptyDirectoryIsTaken) {
  WriteFile(directory_ / "a.txt", "the");
  fs::create_directory(directory_ / "out");
  PrepareOptions options = Options({"a.txt"}, "out/");
  ASSERT_TRUE(Prepare(options).ok());
  EXPECT_TRUE(fs::exists(directory_ / "out/tokens-00000.bin"));
}

TEST_F(PrepareTest, TheCacheIsOfContent) {
  const PrepareOptions options = SomeFiles("");
  const std::string cache = directory_ / "cache";
  const auto directory = [&](const PrepareOptions& o, const Tokenizer& tokenizer) {
    const auto path = PreparedDirectory(cache, tokenizer, o);
    EXPECT_TRUE(path.ok()) << path.status();
    return path.value_or("");
  };
  PrepareOptions prepared = options;
  prepared.directory = directory(options, *tokenizer_);
  EXPECT_TRUE(absl::StartsWith(prepared.directory, cache + "/"));
  ASSERT_TRUE(Prepare(prepared).ok());
  EXPECT_EQ(directory(options, *tokenizer_), prepared.directory);

  // Other times of the same content.
  fs::last_write_time(options.files[0], fs::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_EQ(directory(options, *tokenizer_), prepared.directory);

  // Other names of the same content, which documents have.
  PrepareOptions renamed = options;
  fs::rename(options.files[4], directory_ / "renamed.txt");
  renamed.files[4] = directory_ / "renamed.txt";
  const std::string before = prepared.directory;
  prepared = renamed;
  prepared.directory = directory(renamed, *tokenizer_);
  EXPECT_NE(prepared.directory, before);
  ASSERT_TRUE(Prepare(prepared).ok());
  EXPECT_EQ(directory(renamed, *tokenizer_), prepared.directory);
  // A directory that is named is taken as it is.
  renamed.directory = before;
  EXPECT_TRUE(Prepare(renamed)->reused);

  // Other content of the same size, name and time.
  renamed.directory = prepared.directory;
  const std::string last = ReadFile(renamed.files[4]);
  const auto time = fs::last_write_time(renamed.files[4]);
  const auto rewrite = [&](const std::string& text) {
    WriteFile(directory_ / "new", text);
    fs::last_write_time(directory_ / "new", time);
    fs::rename(directory_ / "new", renamed.files[4]);
  };
  rewrite("THE LAST");
  EXPECT_NE(directory(renamed, *tokenizer_), prepared.directory);
  EXPECT_TRUE(absl::IsFailedPrecondition(Prepare(renamed).status()));
  rewrite(last);
  EXPECT_EQ(directory(renamed, *tokenizer_), prepared.directory);

  // One that lacks its name.
  fs::rename(prepared.directory, prepared.directory + ".unfinished");
  EXPECT_FALSE(absl::EndsWith(directory(renamed, *tokenizer_), ".unfinished"));
  fs::rename(prepared.directory + ".unfinished", prepared.directory);

  // Other content, settings, tokenizer.
  PrepareOptions other = renamed;
  other.end_of_text = -1;
  EXPECT_NE(directory(other, *tokenizer_), prepared.directory);
  other = renamed;
  std::swap(other.files[0], other.files[2]);
  EXPECT_NE(directory(other, *tokenizer_), prepared.directory);
  TokenizerSpec spec = tokenizer_->spec();
  spec.merges.pop_back();
  EXPECT_NE(directory(renamed, **Tokenizer::Create(spec)), prepared.directory);
  std::string text = ReadFile(directory_ / "a.txt");
  text.back() ^= 1;
  WriteFile(directory_ / "a.txt", text);
  EXPECT_NE(directory(renamed, *tokenizer_), prepared.directory);

  other.files.push_back("-");
  EXPECT_TRUE(absl::IsInvalidArgument(PreparedDirectory(cache, *tokenizer_, other).status()));
}

TEST_F(PrepareTest, StopsAndGoesOn) {
  ASSERT_TRUE(Prepare(SomeFiles("whole")).ok());
  PrepareOptions options = SomeFiles("out");
  int calls = 0;
  options.on_progress = [&](const PrepareOptions::Progress&) { ++calls; };
  options.stop_requested = [&] { return calls == 6; };
  const auto stopped = Prepare(options);
  EXPECT_TRUE(absl::IsCancelled(stopped.status())) << stopped.status();
  EXPECT_FALSE(fs::exists(options.directory));
  EXPECT_TRUE(fs::exists(options.directory + ".unfinished/tokens-00000.bin"));
  options.stop_requested = nullptr;
  PrepareOptions::Progress last;
  options.on_progress = [&](const PrepareOptions::Progress& progress) { last = progress; };
  const auto resumed = Prepare(options);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_GT(last.bytes_resumed, 0);
  EXPECT_LT(last.bytes_resumed, last.bytes_read);
  EXPECT_GT(resumed->num_resumed_tokens, 0);
  EXPECT_FALSE(fs::exists(options.directory + ".unfinished"));
  EXPECT_TRUE(Tree(options.directory) == Tree(directory_ / "whole"));
}

// Neither before a pipe has a writer, nor while that says nothing.
TEST_F(PrepareTest, StopsWhileItWaitsForAPipe) {
  const std::string pipe = directory_ / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const bool has_writer : {false, true}) {
    const int writer = has_writer ? open(pipe.c_str(), O_RDWR) : -1;
    EXPECT_EQ(write(writer, "the", 3), has_writer ? 3 : -1);
    PrepareOptions options = Options({"pipe"}, "out");
    int calls = 0;
    options.stop_requested = [&] { return ++calls > 3; };
    EXPECT_TRUE(absl::IsCancelled(Prepare(options).status())) << has_writer;
    EXPECT_FALSE(fs::exists(options.directory + ".unfinished"));
    if (has_writer) close(writer);
  }
}

TEST_F(PrepareTest, KeepsAllWhereTheNameCannotBeGiven) {
  ASSERT_TRUE(Prepare(SomeFiles("whole")).ok());
  PrepareOptions options = SomeFiles("out");
  options.on_progress = [&](const PrepareOptions::Progress&) {
    fs::create_directories(options.directory);
    WriteFile(options.directory + "/mine.txt", "mine");
  };
  EXPECT_THAT(std::string(Prepare(options).status().message()), HasSubstr("cannot rename"));
  EXPECT_TRUE(fs::exists(options.directory + ".unfinished/progress.json"));
  fs::remove_all(options.directory);
  options.on_progress = nullptr;
  const auto resumed = Prepare(options);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ(resumed->num_resumed_tokens, resumed->num_tokens);
  EXPECT_TRUE(Tree(options.directory) == Tree(directory_ / "whole"));
}

TEST_F(PrepareTest, WhatWasBegunOfOtherFilesIsForgotten) {
  PrepareOptions options = SomeFiles("out");
  int calls = 0;
  options.on_progress = [&](const PrepareOptions::Progress&) { ++calls; };
  options.stop_requested = [&] { return calls == 6; };
  EXPECT_TRUE(absl::IsCancelled(Prepare(options).status()));
  options.stop_requested = nullptr;
  options.end_of_text = 'x';
  const auto result = Prepare(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_resumed_tokens, 0);
  EXPECT_FALSE(fs::exists(options.directory + ".unfinished"));
}

// Prepares in a child process that is killed. The folder is whole then, or does not exist.
class KilledPrepareTest : public PrepareTest {
 protected:
  bool RunsToItsEnd(PrepareOptions options, int kill_at_call) const {
    const pid_t child = fork();
    if (child == 0) {
      int calls = 0;
      options.on_progress = [&](const PrepareOptions::Progress&) {
        if (++calls == kill_at_call) raise(SIGKILL);
      };
      _exit(Prepare(options).ok() ? 0 : 1);
    }
    return EndedWell(child);
  }
  static bool EndedWell(pid_t child) {
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0) << status;
    return WIFEXITED(status);
  }
};

TEST_F(KilledPrepareTest, AtEachBatch) {
  ASSERT_TRUE(Prepare(SomeFiles("whole")).ok());
  const auto whole = Tree(directory_ / "whole");
  PrepareOptions options = SomeFiles("out");
  bool ended = false;
  for (int call = 1; !ended; ++call) {
    fs::remove_all(options.directory + ".unfinished");
    ended = RunsToItsEnd(options, call);
    EXPECT_EQ(fs::exists(options.directory), ended);
    if (ended) break;
    const auto resumed = Prepare(options);
    ASSERT_TRUE(resumed.ok()) << resumed.status();
    EXPECT_TRUE(Tree(options.directory) == whole) << call;
    fs::remove_all(options.directory);
  }
  EXPECT_TRUE(Tree(options.directory) == whole);
}

TEST_F(KilledPrepareTest, AtAnyMoment) {
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(Prepare(SomeFiles("whole")).ok());
  const auto time = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - start);
  const auto whole = Tree(directory_ / "whole");
  const Philox random(1, RandomUse::kTesting, 0);
  PrepareOptions options = SomeFiles("out");
  for (int i = 0; i < 30; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(Prepare(options).ok() ? 0 : 1);
    std::this_thread::sleep_for(time * (random.Bits(i) % 100) / 100);
    kill(child, SIGKILL);
    EndedWell(child);
    if (!fs::exists(options.directory)) continue;
    ASSERT_TRUE(Prepare(options)->reused);  // it removes what is left of the work
    EXPECT_TRUE(Tree(options.directory) == whole);
    fs::remove_all(options.directory);
  }
  ASSERT_TRUE(Prepare(options).ok());
  EXPECT_TRUE(Tree(options.directory) == whole);
  EXPECT_FALSE(fs::exists(options.directory + ".unfinished"));
}

TEST_F(PrepareTest, CallsForOneDirectoryWaitForEachOther) {
  const PrepareOptions options = SomeFiles("out");
  std::vector<int> reused(4);
  std::vector<std::thread> threads;
  for (int& result : reused) {
    threads.emplace_back([&] {
      const auto prepared = Prepare(options);
      result = prepared.ok() ? prepared->reused : -1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(reused, ::testing::UnorderedElementsAre(0, 1, 1, 1));
  EXPECT_FALSE(fs::exists(options.directory + ".unfinished"));
}

TEST_F(PrepareTest, ProgressGrowsToTheEnd) {
  PrepareOptions options = SomeFiles("out");
  PrepareOptions::Progress last;
  options.on_progress = [&](const PrepareOptions::Progress& progress) {
    EXPECT_GE(progress.bytes_read, last.bytes_read);
    EXPECT_GE(progress.tokens, last.tokens);
    last = progress;
  };
  const auto result = Prepare(options);
  ASSERT_TRUE(result.ok()) << result.status();
  int64_t bytes = 0;
  for (const std::string& path : options.files) bytes += fs::file_size(path);
  EXPECT_EQ(last.bytes_in_all, bytes);
  EXPECT_EQ(last.bytes_resumed, 0);
  EXPECT_EQ(last.bytes_read, bytes);
  EXPECT_EQ(last.tokens, result->num_tokens);
  EXPECT_EQ(last.documents, result->num_documents);
}

TEST_F(PrepareTest, BadLinesAreErrorsOrCounted) {
  WriteFile(directory_ / "a.jsonl", "{\"text\": \"the\"}\n{\"text\": \n{\"text\": \"\"}\n");
  PrepareOptions options = Options({"a.jsonl"}, "out");
  EXPECT_THAT(Message(options), HasSubstr("a.jsonl: line 2, column 10: a value is missing"));
  options.documents.skip_bad_lines = true;
  const auto result = Prepare(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_documents, 1);
  EXPECT_EQ(result->num_bad_lines, 1);
  EXPECT_EQ(result->num_empty_documents, 1);
  EXPECT_THAT(result->first_bad_line, HasSubstr("line 2, column 10"));
  EXPECT_EQ(Prepare(options)->num_bad_lines, 1) << "also where it is reused";
}

TEST_F(PrepareTest, ErrorsLeaveNothing) {
  const std::string gz = Gzip(Text(1, 900000));
  WriteFile(directory_ / "cut.txt.gz", gz.substr(0, gz.size() / 2));
  WriteFile(directory_ / "empty.txt", "");
  WriteFile(directory_ / "array.txt", std::string("\x93NUMPY\x01\0v\0", 10));
  WriteFile(directory_ / "field.jsonl", "{\"body\": \"the\"}\n");
  WriteFile(directory_ / "blank.jsonl", "\n\n");
  WriteFile(directory_ / "empty.jsonl", "{\"text\": \"\"}\n");
  WriteFile(directory_ / "good.txt", "the");
  ASSERT_TRUE(WriteTokenFile(directory_ / "tokens.bin", {1, 2}, TokenEncoding::kUint16).ok());
  const auto message = [&](const std::string& name) { return Message(Options({name}, "out")); };
  EXPECT_THAT(message("cut.txt.gz"), HasSubstr("cut.txt.gz: the gzip stream is cut off at byte " +
                                               std::to_string(gz.size() / 2)));
  EXPECT_THAT(message("empty.txt"), HasSubstr("empty.txt: is empty"));
  EXPECT_THAT(message("array.txt"), HasSubstr("array.txt: is a NumPy array, not text"));
  EXPECT_THAT(message("tokens.bin"), HasSubstr("tokens.bin: is a file of tokens, not text"));
  EXPECT_THAT(message("field.jsonl"), HasSubstr("has no member \"text\"; it has body"));
  EXPECT_THAT(message("empty.jsonl"), HasSubstr("empty.jsonl: line 1: its document is empty"));
  EXPECT_THAT(message("blank.jsonl"), HasSubstr("blank.jsonl: holds no document"));
  EXPECT_THAT(Message(Options({"blank.jsonl", "blank.jsonl"}, "out")),
              HasSubstr("blank.jsonl and 1 more: hold no document"));
  EXPECT_THAT(message("missing.txt"), HasSubstr("missing.txt"));
  EXPECT_THAT(Message(Options({"good.txt", "array.txt"}, "out")), HasSubstr("array.txt"));
  EXPECT_THAT(Message(Options({}, "out")), HasSubstr("list of files to prepare is empty"));
  PrepareOptions options = Options({"good.txt"}, "out");
  options.end_of_text = 261;
  EXPECT_THAT(Message(options), AllOf(HasSubstr("261"), HasSubstr("vocabulary size")));
  options = Options({"good.txt"}, "out");
  options.max_file_tokens = 0;
  EXPECT_THAT(Message(options), HasSubstr("0 tokens in a file"));
}

// Reading is at most four batches of 256 KiB ahead of writing.
TEST_F(PrepareTest, AnErrorAfterFinishedFilesKeepsThem) {
  WriteFile(directory_ / "good.txt", Text(1, 4000000));
  const std::string gz = Gzip("the");
  WriteFile(directory_ / "cut.txt.gz", gz.substr(0, gz.size() - 2));
  const auto result = Prepare(Options({"good.txt", "cut.txt.gz"}, "out"));
  EXPECT_TRUE(absl::IsDataLoss(result.status())) << result.status();
  EXPECT_FALSE(fs::exists(directory_ / "out"));
  EXPECT_TRUE(fs::exists(directory_ / "out.unfinished/tokens-00000.bin"));
  WriteFile(directory_ / "cut.txt.gz", gz);
  const auto repaired = Prepare(Options({"good.txt", "cut.txt.gz"}, "out"));
  ASSERT_TRUE(repaired.ok()) << repaired.status();
  EXPECT_EQ(repaired->num_documents, 2);
  EXPECT_FALSE(fs::exists(directory_ / "out.unfinished"));
}

}  // namespace
}  // namespace strake
