#include "data/token_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kHeaderBytes = 1024;

std::string TempPath(const std::string& name) { return ::testing::TempDir() + "/" + name; }

void WriteBytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string Header(int32_t magic, int32_t version, int32_t count) {
  const std::array<int32_t, 256> header = {magic, version, count};
  return std::string(reinterpret_cast<const char*>(header.data()), sizeof(header));
}

std::vector<int32_t> ReadAll(const TokenFile& file) {
  std::vector<int32_t> tokens(file.num_tokens(), -1);
  EXPECT_TRUE(file.Read(0, file.num_tokens(), tokens.data()).ok());
  return tokens;
}

std::string OpenError(const std::string& path, int64_t vocab_size) {
  const absl::StatusOr<TokenFile> file = TokenFile::Open(path, vocab_size);
  return file.ok() ? "no error" : std::string(file.status().message());
}

// Files that testdata/make_testdata.py wrote.
TEST(TokenFileTest, ReadsWhatPythonPacked) {
  const auto gpt2 = TokenFile::Open("data/testdata/gpt2.bin", 50257);
  ASSERT_TRUE(gpt2.ok()) << gpt2.status();
  EXPECT_EQ(gpt2->encoding(), TokenEncoding::kUint16);
  EXPECT_THAT(ReadAll(*gpt2), ElementsAre(50256, 0, 1, 258, 40000));
  const auto llama3 = TokenFile::Open("data/testdata/llama3.bin", 16909061);
  ASSERT_TRUE(llama3.ok()) << llama3.status();
  EXPECT_EQ(llama3->encoding(), TokenEncoding::kUint32);
  EXPECT_THAT(ReadAll(*llama3), ElementsAre(128000, 0, 65536, 16909060));
}

TEST(TokenFileTest, ReadsTextAsBytes) {
  const auto text = TokenFile::Open("data/testdata/text.txt", 256);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->encoding(), TokenEncoding::kBytes);
  EXPECT_EQ(text->num_tokens(), 18);
  int32_t tokens[4];
  ASSERT_TRUE(text->Read(9, 4, tokens).ok());
  EXPECT_THAT(tokens, ElementsAre('\n', 0xc3, 0x84, ' '));
}

TEST(TokenFileTest, WriterAndReaderAgree) {
  const std::vector<int32_t> tokens = {0, 1, 255, 7, 100};
  for (const auto& [encoding, name] : {std::pair{TokenEncoding::kBytes, "roundtrip.txt"},
                                       {TokenEncoding::kUint16, "r16.bin"},
                                       {TokenEncoding::kUint32, "r32.bin"}}) {
    const std::string path = TempPath(name);
    ASSERT_TRUE(WriteTokenFile(path, tokens, encoding).ok());
    const auto file = TokenFile::Open(path, 256);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->encoding(), encoding);
    EXPECT_EQ(ReadAll(*file), tokens);
  }
}

TEST(TokenFileTest, WriterRejectsWhatDoesNotFit) {
  const std::string path = TempPath("unfit.bin");
  EXPECT_THAT(WriteTokenFile(path, {65536}, TokenEncoding::kUint16).message(),
              AllOf(HasSubstr(path), HasSubstr("token 65536 does not fit into 2 bytes")));
  EXPECT_FALSE(WriteTokenFile(path, {-1}, TokenEncoding::kUint32).ok());
  EXPECT_FALSE(WriteTokenFile(path, {256}, TokenEncoding::kBytes).ok());
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_THAT(WriteTokenFile("/no/such/folder/x.bin", {1}, TokenEncoding::kUint16).message(),
              AllOf(HasSubstr("/no/such/folder/x.bin"), HasSubstr("No such file")));
}

TEST(TokenFileTest, FilesThatCannotBeOpenedAreNamed) {
  EXPECT_THAT(OpenError("/no/such/file.txt", 256),
              AllOf(HasSubstr("data file /no/such/file.txt"), HasSubstr("No such file")));
  const std::string folder = ::testing::TempDir();
  EXPECT_THAT(OpenError(folder, 256), AllOf(HasSubstr(folder), HasSubstr("is a directory")));

  const std::string loop = TempPath("loop");
  ASSERT_EQ(symlink(loop.c_str(), loop.c_str()), 0);
  EXPECT_THAT(OpenError(loop, 256), AllOf(HasSubstr(loop), HasSubstr("symbolic links")));
  // Without a writer, opening a pipe must not wait for one.
  const std::string pipe = TempPath("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(OpenError(pipe, 256), AllOf(HasSubstr(pipe), HasSubstr("not a regular file")));

  for (const char* name : {"empty.txt", "empty.bin"}) {
    const std::string empty = TempPath(name);
    WriteBytes(empty, "");
    EXPECT_THAT(OpenError(empty, 256), AllOf(HasSubstr(empty), HasSubstr("is empty")));
  }
}

TEST(TokenFileTest, AFileWithoutPermissionIsNamed) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read every file";
  const std::string path = TempPath("secret.txt");
  WriteBytes(path, "text");
  ASSERT_EQ(chmod(path.c_str(), 0), 0);
  EXPECT_THAT(OpenError(path, 256), AllOf(HasSubstr(path), HasSubstr("Permission denied")));
}

TEST(TokenFileTest, WrongHeadersSayWhatWasFound) {
  const std::string path = TempPath("header.bin");
  const auto error = [&](const std::string& bytes) {
    WriteBytes(path, bytes);
    const std::string message = OpenError(path, 50257);
    EXPECT_THAT(message, HasSubstr("data file " + path));
    return message;
  };
  EXPECT_THAT(error("short"), AllOf(HasSubstr("has 5 bytes"), HasSubstr("1024")));
  EXPECT_THAT(error(Header(20240521, 1, 0)),
              AllOf(HasSubstr("magic number is 20240521"), HasSubstr("20240520")));
  EXPECT_THAT(error(Header(20240520, 7, 0)), HasSubstr("its version is 7"));
  EXPECT_THAT(error(Header(20240801, 1, 0)), HasSubstr("only version 7"));
  EXPECT_THAT(error(Header(20240520, 1, 0)), HasSubstr("holds no tokens"));
  EXPECT_THAT(error(Header(20240520, 1, 2) + std::string(3, '\0')),
              AllOf(HasSubstr("has 1027 bytes"), HasSubstr("2 tokens of 2 bytes make 1028")));
  EXPECT_THAT(error(Header(20240801, 7, 1) + std::string(8, '\0')), HasSubstr("make 1028"));
  EXPECT_THAT(error(Header(20240520, 1, -1)), HasSubstr("-1 tokens"));
  EXPECT_THAT(error(Header(20240801, 7, std::numeric_limits<int32_t>::max())),
              HasSubstr("make 8589935612"));
}

TEST(TokenFileTest, TokensOutsideTheVocabularyAreLocated) {
  // A token in the second block of the scan, which is -1 if read as signed.
  std::vector<int32_t> tokens(20000, 99);
  tokens[8195] = 65535;
  const std::string path = TempPath("vocabulary.bin");
  ASSERT_TRUE(WriteTokenFile(path, tokens, TokenEncoding::kUint16).ok());
  EXPECT_THAT(OpenError(path, 100),
              AllOf(HasSubstr(path), HasSubstr("token 65535 at offset 8195"), HasSubstr("100")));
  EXPECT_THAT(OpenError(path, 99), HasSubstr("token 99 at offset 0"));
  EXPECT_THAT(OpenError(path, 65535), HasSubstr("offset 8195"));
  EXPECT_EQ(OpenError(path, 65536), "no error");

  WriteBytes(path, Header(20240801, 7, 1) + "\xff\xff\xff\xff");
  EXPECT_THAT(OpenError(path, std::numeric_limits<int32_t>::max()),
              HasSubstr("token 4294967295 at offset 0"));
  const std::string text = TempPath("vocabulary.txt");
  WriteBytes(text, "ab\xc3");
  EXPECT_THAT(OpenError(text, 128), HasSubstr("token 195 at offset 2"));
}

TEST(TokenFileTest, LargeFilesAreCheckedAsTheyAreRead) {
  // A sparse file: zeros without disk space, and one token of 50257 at the end.
  const std::string path = TempPath("large.bin");
  const int32_t num_tokens = TokenFile::kMaxScanBytes / 2;
  const int64_t size = kHeaderBytes + int64_t{num_tokens} * 2;
  WriteBytes(path, Header(20240520, 1, num_tokens));
  std::filesystem::resize_file(path, size - 2);
  std::ofstream(path, std::ios::binary | std::ios::app) << "\x51\xc4";
  ASSERT_EQ(std::filesystem::file_size(path), size);

  const auto file = TokenFile::Open(path, 50257);
  ASSERT_TRUE(file.ok()) << file.status();
  int32_t tokens[2] = {-1, -1};
  EXPECT_TRUE(file->Read(num_tokens - 3, 2, tokens).ok());
  EXPECT_THAT(tokens, ElementsAre(0, 0));
  EXPECT_THAT(file->Read(num_tokens - 2, 2, tokens).message(),
              AllOf(HasSubstr(path), HasSubstr("token 50257 at offset 536870911")));
  std::filesystem::remove(path);
}

TEST(TokenFileTest, OutlivesAMove) {
  auto file = TokenFile::Open("data/testdata/gpt2.bin", 50257);
  ASSERT_TRUE(file.ok()) << file.status();
  const TokenFile moved = std::move(file).value();
  EXPECT_EQ(ReadAll(moved)[0], 50256);
}

TEST(TokenFileDeathTest, ReadsOutsideTheFileAreProgrammerErrors) {
  const auto file = TokenFile::Open("data/testdata/gpt2.bin", 50257);
  ASSERT_TRUE(file.ok());
  int32_t tokens[6];
  EXPECT_DEATH((void)file->Read(1, 5, tokens), "gpt2.bin: 5 tokens from 1 of 5");
  EXPECT_DEATH((void)file->Read(-1, 1, tokens), "1 tokens from -1 of 5");
  EXPECT_DEATH((void)TokenFile::Open("data/testdata/gpt2.bin", 0), "vocab_size 0");
}

}  // namespace
}  // namespace strake
