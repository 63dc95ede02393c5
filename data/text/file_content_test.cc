#include "data/text/file_content.h"

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

template <size_t n>
std::string Bytes(const char (&literal)[n]) {
  return std::string(literal, n - 1);
}

std::string WriteTemporary(const std::string& name, const std::string& content) {
  const std::string path = ::testing::TempDir() + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

TEST(FileContentTest, Text) {
  std::string page = "A page.\f\nThe next\r\n";
  page += "\x1b[1mbold\x1b[0m and one stray \x01" + std::string(200, 'x');
  for (const std::string& text :
       {Bytes(""), Bytes("a"), Bytes("Grüße, 日本語 🎉\n"), Bytes("\xef\xbb\xbf with a mark"),
        Bytes("caf\xe9 in Latin-1"), page, Bytes("PAR1 is how a Parquet file begins"),
        Bytes("ORCs and BMWs"), Bytes("GIF89a"), Bytes("{\"text\": \"x\"}"),
        Bytes("BZh is not all"), Bytes("PK, said she"), std::string(100000, 'z') + '\0'}) {
    EXPECT_EQ(ContentOfBytes(text).content, FileContent::kText) << text;
    EXPECT_EQ(ContentOfBytes(text).name, "text");
  }
}

TEST(FileContentTest, Compressed) {
  EXPECT_EQ(ContentOfBytes(Bytes("\x1f\x8b\x08\0\0\0\0\0")).content, FileContent::kGzip);
  EXPECT_EQ(ContentOfBytes(Bytes("\x28\xb5\x2f\xfd\x04")).content, FileContent::kZstd);
  EXPECT_EQ(ContentOfBytes(Bytes("\x5a\x2a\x4d\x18\1\0\0\0")).content, FileContent::kZstd);
}

TEST(FileContentTest, Tokens) {
  for (const int32_t magic : {20240520, 20240801}) {
    std::string file(1024 + 2, '\0');
    file.replace(0, 4, reinterpret_cast<const char*>(&magic), 4);
    EXPECT_EQ(ContentOfBytes(file).content, FileContent::kTokens);
  }
}

TEST(FileContentTest, OthersAreNamed) {
  struct Case {
    std::string bytes;
    const char* name;
  };
  const std::string zip = Bytes("PK\x03\x04") + std::string(26, '\0');
  const std::vector<Case> cases = {
      {Bytes("\x93NUMPY\x01\0v\0{'descr': '<f4'"), "a NumPy array"},
      {zip + "arr_0.npy", "NumPy arrays (.npz)"},
      {zip + "archive/data.pkl", "a PyTorch file"},
      {zip + "[Content_Types].xml", "an Office document"},
      {zip + "readme.txt", "a zip archive"},
      {Bytes("BZh91AY&SY\x12"), "a bzip2 file"},
      {Bytes("\xfd\x37zXZ\0\0"), "an xz file"},
      {Bytes("\x04\x22\x4d\x18\x64"), "an lz4 file"},
      {Bytes("PAR1\x15\x04\x15\0"), "a Parquet file"},
      {Bytes("ARROW1\0\0\xff\xff"), "an Arrow file"},
      {Bytes("FEA1\0\0\0\0"), "a Feather file"},
      {Bytes("\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "a PNG image"},
      {Bytes("\xff\xd8\xff\xe0\0\x10JFIF"), "a JPEG image"},
      {Bytes("GIF89a\x01\0\x01\0"), "a GIF image"},
      {Bytes("RIFF\x24\0\0\0WEBPVP8 "), "a WebP image"},
      {Bytes("%PDF-1.7\n1 0 obj"), "a PDF document"},
      {Bytes("SQLite format 3\0\x10\0"), "an SQLite database"},
      {Bytes("\x89HDF\r\n\x1a\n\0"), "an HDF5 file"},
      {Bytes("\x40\0\0\0\0\0\0\0{\"w\":{}}"), "a safetensors file"},
      {Bytes("\x80\x04\x95\x10\0\0\0"), "a Python pickle"},
      {Bytes("\x80\x02}q\0"), "a Python pickle"},
      {Bytes("\x7f"
             "ELF\x02\x01\x01\0"),
       "a program"},
      {Bytes("GGUF\x03\0\0\0"), "a GGUF model"},
      {Bytes("\xff\xfeh\0i\0"), "UTF-16 text"},
      {Bytes("\xfe\xff\0h\0i"), "UTF-16 text"},
      {Bytes("\xff\xfe\0\0h\0\0\0"), "UTF-32 text"},
      {Bytes("h\0e\0l\0l\0o\0 \0y\0o\0u\0"), "UTF-16 text"},
      {Bytes("text, and then\0"), "binary data"},
      {std::string("\x01\x02\x03 text of which 1 in 10 is no text"), "binary data"},
  };
  for (const Case& other : cases) {
    const ContentKind kind = ContentOfBytes(other.bytes);
    EXPECT_EQ(kind.content, FileContent::kOther) << other.name;
    EXPECT_EQ(kind.name, other.name);
    EXPECT_NE(kind.hint, "");
  }
}

TEST(FileContentTest, TheNameDoesNotMatter) {
  const std::string path = WriteTemporary("array.txt", Bytes("\x93NUMPY\x01\0v\0"));
  const auto kind = ContentOfFile(path);
  ASSERT_TRUE(kind.ok()) << kind.status();
  EXPECT_EQ(NotTextError(path, *kind).message(),
            path + ": is a NumPy array, not text; save its text as UTF-8");
  EXPECT_EQ(ContentOfFile(WriteTemporary("text.npy", "Words"))->content, FileContent::kText);
}

TEST(FileContentTest, OnlyTheBeginningIsRead) {
  const std::string path = WriteTemporary("long.txt", std::string(kContentBytes, 'a') + '\0');
  EXPECT_EQ(ContentOfFile(path)->content, FileContent::kText);
}

TEST(FileContentTest, ErrorsNameTheFile) {
  const std::string pipe = ::testing::TempDir() + "pipe";
  std::filesystem::remove(pipe);
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const auto message = [](const std::string& path) {
    return std::string(ContentOfFile(path).status().message());
  };
  EXPECT_THAT(message("missing.txt"), HasSubstr("cannot open missing.txt"));
  EXPECT_THAT(message(::testing::TempDir()), HasSubstr("is a directory"));
  EXPECT_THAT(message(pipe), HasSubstr("is not a regular file"));
  EXPECT_THAT(message(WriteTemporary("empty.txt", "")), HasSubstr("empty.txt: is empty"));
}

}  // namespace
}  // namespace strake
