#include "tools/tokenizing/encode_stream.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/file_descriptor.h"
#include "data/tokenizer/training/bpe_trainer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

// A file in memory that holds `text`, to be read from its beginning.
FileDescriptor FileOf(const std::string& text) {
  FileDescriptor file(memfd_create("text", MFD_CLOEXEC));
  EXPECT_EQ(write(file.get(), text.data(), text.size()), ssize_t(text.size()));
  EXPECT_EQ(lseek(file.get(), 0, SEEK_SET), 0);
  return file;
}

std::string Contents(const FileDescriptor& file) {
  std::string text(lseek(file.get(), 0, SEEK_END), '\0');
  EXPECT_EQ(pread(file.get(), text.data(), text.size(), 0), ssize_t(text.size()));
  return text;
}

std::unique_ptr<const Tokenizer> SmallTokenizer() {
  auto spec = TrainBpe({{" low", 5}, {" lower", 2}, {" newest", 6}, {" widest", 3}, {" 12", 4}},
                       {.vocab_size = 290, .special_tokens = {"<end>"}});
  spec->pre_tokenizers = {{.kind = PreTokenizer::Kind::kByteLevel, .use_regex = true}};
  return Tokenizer::Create(*std::move(spec)).value();
}

std::string Encoded(const Tokenizer& tokenizer, const std::string& text, int num_threads) {
  const FileDescriptor in = FileOf(text), out = FileOf("");
  const absl::Status status = EncodeStream(tokenizer, num_threads, in.get(), out.get());
  EXPECT_TRUE(status.ok()) << status;
  return Contents(out);
}

absl::StatusOr<std::string> Decoded(const Tokenizer& tokenizer, const std::string& ids) {
  const FileDescriptor in = FileOf(ids), out = FileOf("");
  const absl::Status status = DecodeStream(tokenizer, in.get(), out.get());
  if (!status.ok()) return status;
  return Contents(out);
}

std::string ExpectedLines(const Tokenizer& tokenizer, const std::string& text) {
  WordCache cache;
  std::vector<int32_t> ids;
  tokenizer.Encode(text, &cache, &ids);
  std::string lines;
  for (const int32_t id : ids) absl::StrAppend(&lines, id, "\n");
  return lines;
}

std::string LongText() {
  const std::vector<std::string> words = {" low",  " lower", " newest", "\n\n",   "   ", "<end>",
                                          "12345", "日本語", "🙂",    "\t\x01", "é",   " x"};
  std::mt19937 random(1);
  std::string text;
  while (text.size() < (2 << 20)) text += words[random() % words.size()];
  return text;
}

TEST(EncodeStreamTest, EqualsEncodingTheWhole) {
  const auto tokenizer = SmallTokenizer();
  const std::string text = LongText();
  const std::string lines = ExpectedLines(*tokenizer, text);
  EXPECT_THAT(lines, HasSubstr("\n0\n")) << "no special token";
  for (const int num_threads : {1, 2, 5}) {
    EXPECT_TRUE(Encoded(*tokenizer, text, num_threads) == lines) << num_threads << " threads";
  }
  const auto decoded = Decoded(*tokenizer, lines);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_TRUE(*decoded == text);
}

TEST(EncodeStreamTest, AnyBytesComeBack) {
  const auto tokenizer = SmallTokenizer();
  std::mt19937 random(2);
  std::string text(300000, '\0');
  for (char& byte : text) byte = static_cast<char>(random());
  const std::string lines = Encoded(*tokenizer, text, 2);
  EXPECT_TRUE(lines == ExpectedLines(*tokenizer, text));
  EXPECT_TRUE(Decoded(*tokenizer, lines).value() == text);
}

TEST(EncodeStreamTest, NothingGivesNothing) {
  const auto tokenizer = SmallTokenizer();
  EXPECT_EQ(Encoded(*tokenizer, "", 3), "");
  EXPECT_EQ(Decoded(*tokenizer, "").value(), "");
  EXPECT_EQ(Decoded(*tokenizer, " \n\n").value(), "");
}

TEST(DecodeStreamTest, NumbersMayStandInOneLine) {
  const auto tokenizer = SmallTokenizer();
  EXPECT_EQ(Decoded(*tokenizer, "0 1\t2\r\n3").value(), "<end>!\"#");
}

TEST(DecodeStreamTest, ErrorsNameTheLine) {
  const auto tokenizer = SmallTokenizer();
  const std::string last = absl::StrCat(tokenizer->vocab_size() - 1);
  const auto error = [&](const std::string& ids) {
    return std::string(Decoded(*tokenizer, ids).status().message());
  };
  EXPECT_THAT(error("0\n1\n-2\n"), HasSubstr("standard input, line 3: \"-\" is no part"));
  EXPECT_THAT(error("5000\n"), HasSubstr("line 1: 5000 is no token"));
  EXPECT_THAT(error("1\n99999999999999999999999"), HasSubstr("line 2: 99999999999999999999999 is"));
  EXPECT_THAT(error("0005000\n"), HasSubstr("line 1: 0005000 is no token"));
  EXPECT_THAT(error("\n\n" + std::string(100, '7')),
              HasSubstr("line 3: " + std::string(40, '7') + "... is no token"));
  EXPECT_THAT(error("5000"), HasSubstr(absl::StrCat("tokens are 0 to ", last)));
}

TEST(EncodeStreamTest, ErrorsOfFilesArePassedOn) {
  const auto tokenizer = SmallTokenizer();
  const FileDescriptor full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  const FileDescriptor directory(open(".", O_RDONLY | O_CLOEXEC));
  const FileDescriptor in = FileOf(LongText()), out = FileOf("");
  EXPECT_THAT(std::string(EncodeStream(*tokenizer, 2, in.get(), full.get()).message()),
              HasSubstr("cannot write to standard output: No space left on device"));
  EXPECT_THAT(std::string(EncodeStream(*tokenizer, 2, directory.get(), out.get()).message()),
              HasSubstr("cannot read standard input"));
  EXPECT_THAT(std::string(DecodeStream(*tokenizer, directory.get(), out.get()).message()),
              HasSubstr("cannot read standard input"));
}

}  // namespace
}  // namespace strake
