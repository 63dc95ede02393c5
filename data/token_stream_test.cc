#include "data/token_stream.h"

#include <compare>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/thread_team.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kVocabSize = 50257;

std::string Write(const std::string& name, const std::vector<int32_t>& tokens,
                  TokenEncoding encoding) {
  const std::string path = ::testing::TempDir() + "/" + name;
  EXPECT_TRUE(WriteTokenFile(path, tokens, encoding).ok());
  return path;
}

TokenStream Open(const std::vector<std::string>& paths) {
  auto stream = TokenStream::Open(paths, kVocabSize);
  EXPECT_TRUE(stream.ok()) << stream.status();
  return std::move(stream).value();
}

// start, start + 1, ...
std::vector<int32_t> Count(int32_t start, int64_t n) {
  std::vector<int32_t> tokens(n);
  for (int64_t i = 0; i < n; ++i) tokens[i] = start + i;
  return tokens;
}

TEST(TokenStreamTest, ReadsAcrossFilesInListOrder) {
  const std::string a = Write("a.bin", Count(10, 3), TokenEncoding::kUint16);
  const std::string b = Write("b.txt", Count(13, 1), TokenEncoding::kBytes);
  const std::string c = Write("c.bin", Count(14, 4), TokenEncoding::kUint32);
  const TokenStream stream = Open({a, b, c});
  ASSERT_EQ(stream.num_tokens(), 8);
  for (int64_t begin = 0; begin <= 8; ++begin) {
    for (int64_t count = 0; begin + count <= 8; ++count) {
      std::vector<int32_t> tokens(count, -1);
      ASSERT_TRUE(stream.Read(begin, count, tokens.data()).ok());
      EXPECT_EQ(tokens, Count(10 + begin, count)) << begin << " " << count;
    }
  }
  int32_t tokens[2];
  ASSERT_TRUE(Open({c, a}).Read(3, 2, tokens).ok());
  EXPECT_THAT(tokens, ElementsAre(17, 10));
}

TEST(TokenStreamTest, TheFirstBadFileIsNamed) {
  const std::string good = Write("good.bin", {1}, TokenEncoding::kUint16);
  EXPECT_THAT(TokenStream::Open({good, "/no/such.bin"}, kVocabSize).status().message(),
              HasSubstr("/no/such.bin"));
  EXPECT_THAT(TokenStream::Open({}, kVocabSize).status().message(), HasSubstr("empty"));
}

struct Hashes {
  std::string all;
  uint64_t samples = 0;

  auto operator<=>(const Hashes&) const = default;
};

Hashes HashesOf(const std::vector<std::string>& paths, int num_threads = 1) {
  ThreadTeam team(num_threads);
  const TokenStream stream = Open(paths);
  return {stream.AllTokens(team).ToString(), stream.SampledTokens()};
}

TEST(TokenStreamTest, HashesAreOfTheTokensAlone) {
  const std::vector<int32_t> tokens = Count(0, 100);
  const Hashes hashes = HashesOf({Write("whole.bin", tokens, TokenEncoding::kUint16)});
  EXPECT_EQ(HashesOf({Write("moved.bin", tokens, TokenEncoding::kUint16)}), hashes);
  EXPECT_EQ(HashesOf({Write("wide.bin", tokens, TokenEncoding::kUint32)}), hashes);
  EXPECT_EQ(HashesOf({Write("begin.bin", Count(0, 33), TokenEncoding::kUint16),
                      Write("end.txt", Count(33, 67), TokenEncoding::kBytes)}),
            hashes);
  // Runs save these: the values are part of their format. They are from other implementations: a
  // program in Python, and FNV-1a over 100 words from offset basis ^ 100.
  EXPECT_EQ(hashes.all, "00000aab632b745e00000a2a2db79aa2");
  EXPECT_EQ(hashes.samples, 0x1116de3377ce7b0dull);
}

// Files whose ends are not those of the hash's rows, of 2^16 tokens.
TEST(TokenStreamTest, AllTokensCountOnAnyNumberOfThreads) {
  std::vector<int32_t> tokens(70000);
  for (int i = 0; i < 70000; ++i) tokens[i] = i % 251;
  const auto write = [&](int begin, int end) {
    return Write(absl::StrCat(begin, ".txt"),
                 std::vector<int32_t>(tokens.begin() + begin, tokens.begin() + end),
                 TokenEncoding::kBytes);
  };
  for (const int num_threads : {1, 2, 3}) {
    EXPECT_EQ(HashesOf({write(0, 5000), write(5000, 66000), write(66000, 70000)}, num_threads).all,
              "00436c167edb87df0042f41b868a34af");
  }
}

TEST(TokenStreamTest, AnyChangeChangesTheHashes) {
  std::set<std::string> all;
  std::set<uint64_t> samples;
  const auto see = [&](const std::vector<int32_t>& tokens) {
    const Hashes hashes = HashesOf({Write("x.bin", tokens, TokenEncoding::kUint16)});
    all.insert(hashes.all);
    samples.insert(hashes.samples);
  };
  std::vector<int32_t> tokens = Count(0, 100);
  see(tokens);
  for (int i = 0; i < 100; ++i) {
    std::vector<int32_t> changed = tokens;
    changed[i] ^= 1;
    see(changed);
  }
  tokens.push_back(0);
  see(tokens);
  EXPECT_EQ(all.size(), 102);
  EXPECT_EQ(samples.size(), 102);
}

TEST(TokenStreamTest, SamplesOfALongStreamAreOfBothEnds) {
  const int64_t n = TokenStream::kMaxSampledTokens + 1000;
  const std::string path = ::testing::TempDir() + "/long.txt";
  std::ofstream(path) << "";
  std::filesystem::resize_file(path, n);
  const uint64_t zeros = Open({path}).SampledTokens();
  EXPECT_EQ(Open({path}).SampledTokens(), zeros);
  for (const int64_t at : {int64_t{0}, n / 2, n - 1}) {
    std::fstream(path, std::ios::in | std::ios::out).seekp(at) << 'x';
    EXPECT_NE(Open({path}).SampledTokens(), zeros) << at;
    std::fstream(path, std::ios::in | std::ios::out).seekp(at) << '\0';
    ASSERT_EQ(Open({path}).SampledTokens(), zeros) << at;
  }
  std::filesystem::resize_file(path, n + 1);
  EXPECT_NE(Open({path}).SampledTokens(), zeros);
  std::filesystem::remove(path);
}

TEST(TokenStreamDeathTest, ReadsOutsideTheStreamAreProgrammerErrors) {
  const TokenStream stream = Open({Write("short.bin", {1, 2, 3}, TokenEncoding::kUint16)});
  int32_t tokens[4];
  EXPECT_DEATH((void)stream.Read(1, 3, tokens), "3 tokens from 1 of 3");
  EXPECT_DEATH((void)stream.Read(1, -1, tokens), "-1 tokens from 1 of 3");
}

}  // namespace
}  // namespace strake
