#include "models/checkpoint/safetensors.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

std::string TempPath(const std::string& name) { return ::testing::TempDir() + "/" + name; }

// A file with `header`, preceded by its length, and `data`.
std::string FileBytes(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + data;
}

std::string WriteBytes(const std::string& name, const std::string& bytes) {
  const std::string path = TempPath(name);
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The message of the error for such a file; empty without an error.
std::string ErrorOf(const std::string& header, int64_t data_bytes) {
  const auto entries = ParseSafetensors(FileBytes(header, std::string(data_bytes, 'x')), "f.st");
  return entries.ok() ? "" : std::string(entries.status().message());
}

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

TEST(SafetensorsParseTest, EntriesComeInTheOrderOfTheirData) {
  const std::string bytes =
      FileBytes(R"({"b": {"dtype": "I64", "shape": [], "data_offsets": [6, 14]},
           "e": {"dtype": "F32", "shape": [3, 0], "data_offsets": [6, 6]},
           "a": {"data_offsets": [0, 6], "dtype": "BF16", "shape": [1, 3]},
           "__metadata__": {"format": "pt"}}   )",
                std::string(14, 'x'));
  const auto entries = ParseSafetensors(bytes, "f.st");
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 3);
  EXPECT_EQ((*entries)[0].name, "a");
  EXPECT_EQ((*entries)[0].dtype, SafetensorsDType::kBf16);
  EXPECT_EQ((*entries)[0].shape, (Shape{1, 3}));
  EXPECT_EQ((*entries)[0].begin, bytes.size() - 14);
  EXPECT_EQ((*entries)[0].end, bytes.size() - 8);
  EXPECT_EQ((*entries)[1].name, "e");
  EXPECT_EQ((*entries)[2].name, "b");
  EXPECT_EQ((*entries)[2].end, bytes.size());
}

TEST(SafetensorsParseTest, EveryDTypeHasItsSize) {
  const std::pair<const char*, int> dtypes[] = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
      {"U32", 4},  {"F32", 4}, {"I64", 8}, {"U64", 8},     {"F64", 8}};
  for (const auto& [name, size] : dtypes) {
    const std::string header = absl::StrCat(
        R"({"t": {"dtype": ")", name, R"(", "shape": [5], "data_offsets": [0, )", 5 * size, "]}}");
    const std::string bytes = FileBytes(header, std::string(5 * size, 'x'));
    const auto entries = ParseSafetensors(bytes, "f.st");
    ASSERT_TRUE(entries.ok()) << entries.status();
    EXPECT_STREQ(SafetensorsDTypeName(entries->front().dtype), name);
  }
}

TEST(SafetensorsParseTest, HeaderLengthsAreChecked) {
  const auto error = [](const std::string& bytes) {
    return std::string(ParseSafetensors(bytes, "f.st").status().message());
  };
  EXPECT_EQ(error(""), "f.st: 0 bytes are too few for a safetensors file (at least 8)");
  EXPECT_THAT(error("1234567"), HasSubstr("f.st: 7 bytes are too few"));
  EXPECT_THAT(error(FileBytes("", "xx")), HasSubstr("header length 0 is not between 1 and 2"));
  std::string bytes = FileBytes("{}", "");
  bytes[0] = 3;
  EXPECT_THAT(error(bytes), HasSubstr("header length 3 is not between 1 and 2"));
  std::memset(bytes.data(), 0xff, 8);
  EXPECT_THAT(error(bytes), HasSubstr("header length 18446744073709551615 is not between"));
  const size_t too_long = 100'000'001;
  EXPECT_THAT(error(FileBytes(std::string(too_long, ' '), "")),
              HasSubstr("header length 100000001 is not between 1 and 100000000"));
}

TEST(SafetensorsParseTest, BadHeadersAreNamed) {
  // {"t": {FIELDS}} before 24 bytes of data.
  const auto error = [](const std::string& fields) {
    return ErrorOf(absl::StrCat("{\"t\": {", fields, "}}"), 24);
  };
  ASSERT_EQ(error(R"("dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24])"), "");
  EXPECT_EQ(error(R"("shape": [2, 3], "data_offsets": [0, 24])"),
            "f.st: tensor \"t\" has no dtype");
  EXPECT_EQ(error(R"("dtype": "F32", "data_offsets": [0, 24])"), "f.st: tensor \"t\" has no shape");
  EXPECT_EQ(error(R"("dtype": "F32", "shape": [2, 3])"), "f.st: tensor \"t\" has no data_offsets");
  EXPECT_EQ(error(R"("dtype": "F31", "shape": [2, 3], "data_offsets": [0, 24])"),
            "f.st: tensor \"t\" has the unknown dtype \"F31\"");
  EXPECT_EQ(error(R"("dtype": 32, "shape": [2, 3], "data_offsets": [0, 24])"),
            "f.st: tensor \"t\" has the unknown dtype 32");
  EXPECT_EQ(error(R"("dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], "x": 1)"),
            "f.st: tensor \"t\" has the unknown field \"x\"");
  EXPECT_EQ(error(R"("dtype": "F32", "shape": 6, "data_offsets": [0, 24])"),
            "f.st: tensor \"t\" has a shape that is not an array: 6");
  for (const char* size : {"-2", "2.0", "\"2\"", "9223372036854775808", "1e30", "null", "[2]"}) {
    EXPECT_THAT(error(absl::StrCat(R"("dtype": "F32", "shape": [3, )", size,
                                   R"(], "data_offsets": [0, 24])")),
                HasSubstr("in its shape, where only integers from 0 to 2^63 - 1 may be"))
        << size;
  }
  EXPECT_EQ(error(R"("dtype": "F32", "shape": [2, 2], "data_offsets": [0, 24])"),
            "f.st: tensor \"t\" is F32[2, 2], 16 bytes, but its data_offsets [0, 24] hold 24");
  EXPECT_THAT(error(R"("dtype": "F32", "shape": [4611686018427387904, 4611686018427387904, 16],
                       "data_offsets": [0, 24])"),
              HasSubstr(", more than 2^63 bytes, but its data_offsets [0, 24] hold 24"));
  for (const char* offsets : {"[0, 25]", "[24, 0]", "[0]", "[0, 12, 24]", "[]"}) {
    EXPECT_EQ(error(absl::StrCat(R"("dtype": "F32", "shape": [2, 3], "data_offsets": )", offsets)),
              absl::StrCat("f.st: tensor \"t\" has data_offsets ", offsets,
                           ", which is not a range of the 24 bytes of data"));
  }
  EXPECT_THAT(error(R"("dtype": "F32", "shape": [2, 3], "data_offsets": [-1, 23])"),
              HasSubstr("tensor \"t\" has -1 in its data_offsets"));
  std::string sizes = "1";
  for (int i = 0; i < 100; ++i) sizes += ", 1";
  EXPECT_EQ(
      error(absl::StrCat(R"("dtype": "F32", "data_offsets": [0, 24], "shape": [)", sizes, "]")),
      "f.st: tensor \"t\" has 101 numbers in its shape, more than 64");
  EXPECT_THAT(error(absl::StrCat(R"("dtype": [)", sizes, "]")), HasSubstr("1,1,1..."));
}

TEST(SafetensorsParseTest, BadJsonIsNamed) {
  EXPECT_THAT(ErrorOf("{\"t\": ", 0), HasSubstr("f.st: bad JSON: parse error at line 1"));
  EXPECT_EQ(ErrorOf("[]", 0), "f.st: the header is not an object");
  EXPECT_EQ(ErrorOf("{\"t\": 3}", 0), "f.st: tensor \"t\" is 3, not an object");
  const std::string one = R"("t": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]})";
  EXPECT_EQ(ErrorOf("{" + one + "," + one + "}", 1), "f.st: bad JSON: duplicate key \"t\"");
  EXPECT_EQ(ErrorOf(R"({"__metadata__": {"a": 1}})", 0),
            "f.st: __metadata__ is not an object of strings");
  EXPECT_EQ(ErrorOf(R"({"__metadata__": "x"})", 0),
            "f.st: __metadata__ is not an object of strings");
}

TEST(SafetensorsParseTest, TensorsTileTheData) {
  // Two tensors of bytes, a and b.
  const auto error = [](int a0, int a1, int b0, int b1, int data_bytes) {
    const auto tensor = [](const char* name, int begin, int end) {
      return absl::StrCat("\"", name, "\": {\"dtype\": \"U8\", \"shape\": [", end - begin,
                          "], \"data_offsets\": [", begin, ", ", end, "]}");
    };
    return ErrorOf(absl::StrCat("{", tensor("a", a0, a1), ", ", tensor("b", b0, b1), "}"),
                   data_bytes);
  };
  EXPECT_EQ(error(0, 3, 3, 5, 5), "");
  EXPECT_EQ(error(3, 5, 0, 3, 5), "");
  EXPECT_EQ(error(0, 3, 2, 5, 5),
            "f.st: tensor \"b\" begins at byte 2 of the data, inside another tensor: the tensors "
            "before it end at 3");
  EXPECT_THAT(error(0, 3, 0, 5, 5), HasSubstr("tensor \"b\" begins at byte 0 of the data, inside"));
  EXPECT_EQ(error(0, 2, 3, 5, 5),
            "f.st: tensor \"b\" begins at byte 3 of the data, after a gap: the tensors before it "
            "end at 2");
  EXPECT_THAT(error(1, 2, 2, 5, 5), HasSubstr("tensor \"a\" begins at byte 1 of the data, after"));
  EXPECT_EQ(error(0, 2, 2, 5, 7), "f.st: the tensors cover 5 of 7 bytes of data");
  EXPECT_EQ(ErrorOf("{}", 1), "f.st: the tensors cover 0 of 1 bytes of data");
  EXPECT_EQ(ErrorOf("{}", 0), "");
}

TEST(SafetensorsFileTest, OpenNamesThePath) {
  EXPECT_THAT(std::string(SafetensorsFile::Open("/no/such.st").status().message()),
              HasSubstr("cannot open /no/such.st: No such file"));
  EXPECT_EQ(SafetensorsFile::Open("/tmp").status().message(), "/tmp: not a regular file");
  const std::string path = WriteBytes("empty.st", "");
  EXPECT_THAT(std::string(SafetensorsFile::Open(path).status().message()),
              HasSubstr(path + ": 0 bytes are too few"));
}

// A file of one tensor of that dtype whose data begins at an odd byte.
SafetensorsFile OpenOdd(const std::string& dtype, int64_t count, const std::string& data) {
  std::string header = absl::StrCat(R"({"t": {"dtype": ")", dtype, R"(", "shape": [)", count,
                                    R"(], "data_offsets": [0, )", data.size(), "]}}");
  if (header.size() % 2 == 0) header += " ";
  auto file = SafetensorsFile::Open(WriteBytes("odd.st", FileBytes(header, data)));
  CHECK(file.ok()) << file.status();
  return std::move(file).value();
}

TEST(SafetensorsFileTest, ReadsF32AtAnyAlignment) {
  const std::vector<float> values = {1, -2, 0.1f, std::numeric_limits<float>::infinity(), 1e-45f};
  const SafetensorsFile file = OpenOdd("F32", 5, Bytes(values));
  std::vector<float> read(7, 99);
  ASSERT_TRUE(file.ReadF32(*file.Find("t"), 1, 4, read.data() + 1).ok());
  EXPECT_EQ(read, (std::vector<float>{99, values[1], values[2], values[3], values[4], 99, 99}));
  ASSERT_TRUE(file.ReadF32(file.entries()[0], 5, 0, nullptr).ok());
}

TEST(SafetensorsFileTest, ConvertsEveryF16) {
  std::vector<uint16_t> bits(65536);
  for (int i = 0; i < 65536; ++i) bits[i] = i;
  const SafetensorsFile file = OpenOdd("F16", 65536, Bytes(bits));
  std::vector<float> read(65536);
  ASSERT_TRUE(file.ReadF32(*file.Find("t"), 0, 65536, read.data()).ok());
  for (int i = 0; i < 65536; ++i) {
    const int sign = i >> 15, exponent = (i >> 10) & 31, fraction = i & 1023;
    if (exponent == 31 && fraction != 0) {
      EXPECT_TRUE(std::isnan(read[i])) << i;
      continue;
    }
    double value =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (exponent == 31) value = std::numeric_limits<double>::infinity();
    EXPECT_EQ(read[i], sign ? -value : value) << i;
    EXPECT_EQ(std::signbit(read[i]), sign == 1) << i;
  }
}

TEST(SafetensorsFileTest, ConvertsBf16) {
  const SafetensorsFile file =
      OpenOdd("BF16", 4, Bytes<uint16_t>({0x3f80, 0xc040, 0x7f80, 0x0001}));
  std::vector<float> read(4);
  ASSERT_TRUE(file.ReadF32(*file.Find("t"), 0, 4, read.data()).ok());
  EXPECT_EQ(read, (std::vector<float>{1, -3, std::numeric_limits<float>::infinity(), 0x1p-133f}));
}

TEST(SafetensorsFileTest, RoundsF64ToTheNearestAndTiesToEven) {
  const SafetensorsFile file =
      OpenOdd("F64", 4, Bytes<double>({-0.5, 1 + 0x1.8p-24, 1 + 0x1p-24, 1 + 0x3p-24}));
  std::vector<float> read(4);
  ASSERT_TRUE(file.ReadF32(*file.Find("t"), 0, 4, read.data()).ok());
  EXPECT_EQ(read, (std::vector<float>{-0.5, 1 + 0x1p-23, 1, 1 + 0x2p-23}));
}

TEST(SafetensorsFileTest, OtherDTypesAreNamed) {
  const SafetensorsFile file = OpenOdd("I64", 1, std::string(8, 'x'));
  float value;
  EXPECT_THAT(std::string(file.ReadF32(file.entries()[0], 0, 1, &value).message()),
              HasSubstr("odd.st: tensor \"t\" is I64; only F64, F32, F16 and BF16 can be"));
  EXPECT_EQ(file.Find("u"), nullptr);
  EXPECT_EQ(file.Find(""), nullptr);
}

TEST(SafetensorsFileTest, ReadsRuns) {
  const std::vector<float> values = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  const SafetensorsFile file =
      OpenOdd("F32", 10, {reinterpret_cast<const char*>(values.data()), 10 * sizeof(float)});
  std::vector<float> read(7, -1);
  ASSERT_TRUE(file.ReadF32Runs(file.entries()[0], 2, 2, 3, 3, read.data()).ok());
  EXPECT_EQ(read, (std::vector<float>{2, 3, 5, 6, 8, 9, -1}));
  ASSERT_TRUE(file.ReadF32Runs(file.entries()[0], 1, 3, 3, 2, read.data()).ok());
  EXPECT_EQ(read, (std::vector<float>{1, 2, 3, 4, 5, 6, -1}));
  ASSERT_TRUE(file.ReadF32Runs(file.entries()[0], 10, 2, 3, 0, nullptr).ok());
  EXPECT_DEATH((void)file.ReadF32Runs(file.entries()[0], 3, 2, 3, 3, read.data()),
               "elements 3 \\+ 2, 3 times every 3, of t \\[10\\]");
}

TEST(SafetensorsFileDeathTest, RangesAreChecked) {
  const SafetensorsFile file = OpenOdd("F32", 2, std::string(8, 'x'));
  float values[3];
  EXPECT_DEATH((void)file.ReadF32(file.entries()[0], 1, 2, values),
               "elements 1 \\+ 2, 1 times every 2, of t \\[2\\]");
}

int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total, resident;
  statm >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

TEST(SafetensorsFileTest, ReadingTakesLittleMemory) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer keeps four bytes of its own for each byte that is read";
#endif
  constexpr int64_t kElements = 16 << 20;
  const std::string path = TempPath("large.st");
  auto writer = SafetensorsWriter::Create(path, {SafetensorsSpec{"t", {kElements}}});
  ASSERT_TRUE(writer.ok());
  std::vector<float> block(1 << 16, 1.0f);
  for (int64_t i = 0; i < kElements; i += block.size()) {
    ASSERT_TRUE(writer->Append(block.data(), block.size()).ok());
  }
  ASSERT_TRUE(writer->Finish().ok());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok());
  const int64_t before = ResidentBytes();
  int64_t peak = 0;
  for (int64_t i = 0; i < kElements; i += block.size()) {
    ASSERT_TRUE(file->ReadF32(file->entries()[0], i, block.size(), block.data()).ok());
    peak = std::max(peak, ResidentBytes() - before);
  }
  // The kernel's counters are per thread and lag by up to 64 pages each; 64 MB were read.
  EXPECT_LT(peak, 4 << 20);
  unlink(path.c_str());
}

TEST(SafetensorsWriterTest, WritesTheFormat) {
  const std::string path = TempPath("written.st");
  const std::vector<float> values = {1, 2, 3, 4, 5, 6, 7};
  for (const int64_t portion : {1, 3, 7}) {
    auto writer =
        SafetensorsWriter::Create(path, {{"z", {2, 3}}, {"a \"b\"", {1}}, {"none", {0, 4}}});
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (int64_t i = 0; i < 7; i += portion) {
      ASSERT_TRUE(writer->Append(values.data() + i, std::min<int64_t>(portion, 7 - i)).ok());
    }
    ASSERT_TRUE(writer->Finish().ok());
    std::string header =
        R"({"__metadata__":{"format":"pt"},"z":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
        R"("a \"b\"":{"dtype":"F32","shape":[1],"data_offsets":[24,28]},)"
        R"("none":{"dtype":"F32","shape":[0,4],"data_offsets":[28,28]}})";
    while (header.size() % 8 != 0) header += ' ';
    EXPECT_EQ(ReadBytes(path), FileBytes(header, Bytes(values)));
  }
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  float value;
  ASSERT_TRUE(file->ReadF32(*file->Find("a \"b\""), 0, 1, &value).ok());
  EXPECT_EQ(value, 7);
}

TEST(SafetensorsWriterTest, AnyOrderGivesTheSameBytes) {
  const std::string path = TempPath("order.st");
  const std::vector<float> values = {1, 2, 3, 4, 5};
  std::string bytes[2];
  for (const bool backwards : {false, true}) {
    auto writer = SafetensorsWriter::Create(path, {{"a", {3}}, {"b", {2}}});
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (const int i : {0, 1}) {
      const int tensor = backwards ? 1 - i : i;
      ASSERT_TRUE(writer->Seek(tensor).ok());
      ASSERT_TRUE(writer->Append(values.data() + 3 * tensor, 3 - tensor).ok());
    }
    EXPECT_DEATH((void)writer->Seek(2), "tensor 2 of 2");
    ASSERT_TRUE(writer->Finish().ok());
    bytes[backwards] = ReadBytes(path);
  }
  EXPECT_EQ(bytes[0], bytes[1]);
}

TEST(SafetensorsWriterTest, NoTensors) {
  const std::string path = TempPath("none.st");
  auto writer = SafetensorsWriter::Create(path, {});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->Finish().ok());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->entries().empty());
}

TEST(SafetensorsWriterTest, DiskErrorsNameThePath) {
  EXPECT_THAT(std::string(SafetensorsWriter::Create("/no/such/f.st", {}).status().message()),
              HasSubstr("cannot create /no/such/f.st: No such file"));
  // Every write to this device fails as on a full disk.
  EXPECT_THAT(std::string(SafetensorsWriter::Create("/dev/full", {}).status().message()),
              HasSubstr("cannot write to /dev/full: No space left on device"));
}

TEST(SafetensorsWriterDeathTest, ElementsAreCounted) {
  const std::string path = TempPath("death.st");
  const float values[3] = {};
  auto writer = SafetensorsWriter::Create(path, {SafetensorsSpec{"t", {2}}});
  ASSERT_TRUE(writer.ok());
  EXPECT_DEATH((void)writer->Append(values, 3), "3 elements for .*death.st, which lacks 2");
  EXPECT_DEATH((void)writer->Finish(), "lacks 2 elements");
  EXPECT_DEATH(
      (void)SafetensorsWriter::Create(path, {SafetensorsSpec{"t", {2}}, SafetensorsSpec{"t", {3}}}),
      "two tensors t");
}

}  // namespace
}  // namespace strake
