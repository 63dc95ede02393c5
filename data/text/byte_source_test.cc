#include "data/text/byte_source.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "core/testing/temp_directory.h"
#include "data/text/compress.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using testing::Gzip;
using ::testing::HasSubstr;
using testing::TempDirectory;
using testing::WriteFile;
using testing::Zstd;

// Text that compresses, but not to nothing, of more than a block.
std::string Words(size_t size) {
  std::string text;
  for (uint32_t i = 0; text.size() < size; ++i) {
    text += "word" + std::to_string(i * 2654435761u % 10007) + (i % 11 == 0 ? "\n" : " ");
  }
  text.resize(size);
  return text;
}

absl::StatusOr<std::string> ReadAll(ByteSource* source, size_t size) {
  std::string all;
  while (true) {
    const size_t begin = all.size();
    all.resize(begin + size, '?');
    const auto n = source->Read(&all[begin], size);
    if (!n.ok()) return n.status();
    all.resize(begin + *n);
    if (*n < size) return all;
  }
}

absl::StatusOr<std::string> ReadFrom(const std::string& bytes, size_t size = 1000) {
  const auto source = ByteSource::OfBytes("a.file", bytes);
  if (!source.ok()) return source.status();
  return ReadAll(source->get(), size);
}

std::string Message(const std::string& bytes) {
  const auto all = ReadFrom(bytes);
  EXPECT_TRUE(absl::IsDataLoss(all.status())) << all.status();
  return std::string(all.status().message());
}

TEST(ByteSourceTest, AllFormatsGiveTheSameBytes) {
  for (const size_t size : {0, 1, 1 << 18, 1000003}) {
    const std::string text = Words(size);
    for (const size_t read : {size_t{7777}, size_t{1} << 20}) {
      EXPECT_EQ(*ReadFrom(text, read), text);
      EXPECT_EQ(*ReadFrom(Gzip(text), read), text);
      EXPECT_EQ(*ReadFrom(Zstd(text), read), text);
    }
  }
}

TEST(ByteSourceTest, StreamsMayFollowEachOther) {
  const std::string a = Words(300000), b = "the end";
  EXPECT_EQ(*ReadFrom(Gzip(a) + Gzip("") + Gzip(b)), a + b);
  EXPECT_EQ(*ReadFrom(Zstd(a) + Zstd("") + Zstd(b)), a + b);
  EXPECT_EQ(*ReadFrom(Gzip(a) + std::string(700000, '\0')), a);
  const std::string skippable("\x5a\x2a\x4d\x18\x03\0\0\0abc", 11);
  EXPECT_EQ(*ReadFrom(skippable + Zstd(b) + skippable), b);
}

TEST(ByteSourceTest, EveryCutIsFound) {
  const std::string text = Words(3000);
  for (const std::string& whole : {Gzip(text), Zstd(text), Gzip("a") + Gzip(text)}) {
    for (size_t size = 4; size < whole.size(); ++size) {
      const auto all = ReadFrom(whole.substr(0, size));
      if (all.ok()) {
        EXPECT_EQ(*all, "a") << size;  // the end of the first member
      } else {
        EXPECT_THAT(std::string(all.status().message()),
                    HasSubstr("cut off at byte " + std::to_string(size)));
      }
    }
  }
}

TEST(ByteSourceTest, DamageIsFound) {
  const std::string text = Words(400000);
  std::string gz = Gzip(text), zst = Zstd(text);
  gz[gz.size() / 2] ^= 0x20;
  zst[zst.size() / 2] ^= 0x20;
  EXPECT_THAT(Message(gz), HasSubstr("a.file: the gzip stream is damaged before byte "));
  EXPECT_FALSE(ReadFrom(zst).value_or("") == text);
  EXPECT_THAT(Message(zst.substr(0, 4) + "\xff" + zst.substr(5)),
              HasSubstr("a.file: the zstd stream is damaged near byte "));
  std::string checksum = Gzip(text);
  checksum[checksum.size() - 6] ^= 1;
  EXPECT_THAT(Message(checksum), HasSubstr("incorrect data check"));
}

TEST(ByteSourceTest, OtherDataAfterAStream) {
  const std::string gz = Gzip("text");
  EXPECT_THAT(Message(gz + "more"),
              HasSubstr("follows the gzip stream, from byte " + std::to_string(gz.size())));
  EXPECT_THAT(Message(gz + std::string(5, '\0') + "more"),
              HasSubstr("from byte " + std::to_string(gz.size() + 5)));
  EXPECT_THAT(Message(Zstd("text") + "more"), HasSubstr("zstd stream is damaged"));
}

TEST(ByteSourceTest, AWindowThatNeedsTooMuchMemory) {
  // A frame without a size in its header, of a window of 2^31 bytes.
  EXPECT_THAT(Message(std::string("\x28\xb5\x2f\xfd\x00\xa8\x01\0\0", 9)), HasSubstr("128 MiB"));
}

TEST(ByteSourceTest, TheContentOfTheFileItself) {
  const std::string gz = Gzip("text");
  const auto source = ByteSource::OfBytes("a.txt", gz);
  EXPECT_EQ((*source)->content().content, FileContent::kGzip);
  EXPECT_EQ(*ReadAll(source->get(), 100), "text");
  EXPECT_EQ((*source)->bytes_read(), gz.size());
}

TEST(ByteSourceTest, FingerprintIsOfTheContent) {
  const TempDirectory directory;
  const std::string text = Words(700001);
  WriteFile(directory / "a", text);
  WriteFile(directory / "b", Gzip(text));
  const auto a = ByteSource::Open(directory / "a"), b = ByteSource::Open(directory / "b");
  ASSERT_TRUE(ReadAll(a->get(), 12345).ok());
  ASSERT_TRUE(ReadAll(b->get(), 54321).ok());
  EXPECT_TRUE((*a)->fingerprint() == *FingerprintOfFile(directory / "a"));
  EXPECT_TRUE((*b)->fingerprint() == *FingerprintOfFile(directory / "b"));
  EXPECT_FALSE((*a)->fingerprint() == (*b)->fingerprint());
  for (const size_t at : {size_t{0}, size_t{300000}, text.size() - 1}) {
    std::string other = text;
    other[at] ^= 1;
    WriteFile(directory / "a", other);
    EXPECT_FALSE((*a)->fingerprint() == *FingerprintOfFile(directory / "a")) << at;
  }
}

TEST(ByteSourceTest, ReadsAPipe) {
  const TempDirectory directory;
  const std::string pipe = directory / "pipe", text = Words(600000);
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::thread writer([&] { std::ofstream(pipe, std::ios::binary) << Gzip(text); });
  const auto source = ByteSource::Open(pipe);
  EXPECT_EQ(*ReadAll(source->get(), 1000), text);
  writer.join();
}

TEST(ByteSourceTest, ReadsStandardInput) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  ASSERT_EQ(write(pipe[1], "from stdin", 10), 10);
  close(pipe[1]);
  const int saved = dup(STDIN_FILENO);
  ASSERT_EQ(dup2(pipe[0], STDIN_FILENO), STDIN_FILENO);
  const auto source = ByteSource::Open("-");
  EXPECT_EQ((*source)->name(), "standard input");
  EXPECT_EQ(*ReadAll(source->get(), 1000), "from stdin");
  ASSERT_EQ(dup2(saved, STDIN_FILENO), STDIN_FILENO);
  close(saved);
  close(pipe[0]);
}

TEST(ByteSourceTest, AFileThatGrowsMeanwhile) {
  const TempDirectory directory;
  const std::string path = directory / "log";
  WriteFile(path, Words(300000));
  const auto source = ByteSource::Open(path);
  std::ofstream(path, std::ios::app) << "more";
  const auto all = ReadAll(source->get(), 1000);
  EXPECT_THAT(std::string(all.status().message()), HasSubstr("log: changed while it was read"));
}

TEST(ByteSourceTest, WhatCannotBeOpenedIsNamed) {
  const auto message = [](const std::string& path) {
    return std::string(ByteSource::Open(path).status().message());
  };
  EXPECT_THAT(message("missing.gz"), HasSubstr("cannot open missing.gz"));
  EXPECT_THAT(message("/"), HasSubstr("/: is a directory"));
  EXPECT_THAT(message("/dev/zero"), HasSubstr("/dev/zero: is neither a file nor a pipe"));
}

}  // namespace
}  // namespace strake
