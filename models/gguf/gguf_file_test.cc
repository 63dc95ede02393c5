// The container: keys, tensors of every dtype, and the roundings of q8_0.h.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/base/half.h"
#include "core/base/philox.h"
#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/gguf/gguf_metadata.h"
#include "models/gguf/gguf_reader.h"
#include "models/gguf/gguf_writer.h"
#include "models/gguf/q8_0.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::GgufFile;
using testing::GgufFileTensor;
using ::testing::HasSubstr;
using testing::ReadFile;
using testing::TempDirectory;

std::vector<float> Numbers(int64_t count, double scale) {
  const Philox random(5, RandomUse::kTesting);
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<float>(scale * random.Normal(i)));
  }
  return values;
}

class GgufFileTest : public ::testing::Test {
 protected:
  GgufFile Write(const GgufMetadata& metadata, const std::vector<GgufTensorSpec>& specs,
                 const std::vector<std::vector<float>>& values) {
    auto writer = GgufWriter::Create(path_, metadata, specs);
    CHECK(writer.ok()) << writer.status();
    for (const std::vector<float>& tensor : values) {
      const absl::Status status = writer->Append(tensor.data(), tensor.size());
      CHECK(status.ok()) << status;
    }
    CHECK(writer->Finish().ok());
    return GgufFile(ReadFile(path_));
  }

  TempDirectory directory_;
  const std::string path_ = directory_ / "a.gguf";
};

TEST_F(GgufFileTest, KeysOfEveryType) {
  GgufMetadata metadata;
  metadata.AddBool("bool", true);
  metadata.AddUint32("u32", 4294967295);
  metadata.AddFloat32("f32", 0.1);
  metadata.AddString("text", "a\nb");
  metadata.AddStrings("texts", {"", "\u2581"});
  metadata.AddInt32s("ints", {-1, 2});
  metadata.AddFloat32s("floats", {-0.5f});
  metadata.AddStrings("none", {});
  const GgufFile file = Write(metadata, {}, {});
  EXPECT_THAT(file.key_names,
              ElementsAre("bool", "u32", "f32", "text", "texts", "ints", "floats", "none"));
  EXPECT_EQ(file.keys.at("bool"), true);
  EXPECT_EQ(file.keys.at("u32"), 4294967295u);
  EXPECT_EQ(file.keys.at("f32"), 0.1f);
  EXPECT_EQ(file.keys.at("text"), "a\nb");
  EXPECT_EQ(file.keys.at("texts"), nlohmann::json({"", "\u2581"}));
  EXPECT_EQ(file.keys.at("ints"), nlohmann::json({-1, 2}));
  EXPECT_EQ(file.keys.at("floats"), nlohmann::json({-0.5f}));
  EXPECT_EQ(file.keys.at("none"), nlohmann::json::array());
}

TEST_F(GgufFileTest, TensorsOfEveryDType) {
  // Exact in every dtype, Q8_0's scale being 1. The sizes are no multiples of the alignment.
  std::vector<float> exact(3 * 32);
  for (int i = 0; i < 96; ++i) exact[i] = static_cast<float>(i % 32 == 0 ? -127 : i);
  const std::vector<GgufTensorSpec> specs = {{"vector", {3}, GgufDType::kF32},
                                             {"half", {3, 1}, GgufDType::kF16},
                                             {"bf16", {3, 32}, GgufDType::kBf16},
                                             {"q8", {3, 32}, GgufDType::kQ8_0},
                                             {"last", {1}, GgufDType::kF32}};
  const std::vector<std::vector<float>> values = {
      {1e-30f, 0.1f, -3}, {0.5f, -2, 65504}, exact, exact, {7}};
  const GgufFile file = Write({}, specs, values);
  for (size_t i = 0; i < specs.size(); ++i) {
    const GgufFileTensor& tensor = file.tensors.at(specs[i].name);
    EXPECT_EQ(tensor.values, values[i]) << specs[i].name;
    EXPECT_EQ(tensor.dtype, static_cast<uint32_t>(specs[i].dtype));
  }
  EXPECT_THAT(file.tensors.at("q8").dims, ElementsAre(32, 3));
  EXPECT_THAT(file.tensors.at("q8").scales, ElementsAre(1, 1, 1));
}

TEST_F(GgufFileTest, NumbersThatADTypeCannotHoldAreErrors) {
  for (const GgufDType dtype : {GgufDType::kF16, GgufDType::kQ8_0}) {
    auto writer = GgufWriter::Create(path_, {}, {{"blk.0.w", {1, 32}, dtype}});
    std::vector<float> values(32, 1);
    values[9] = 3e8f;
    EXPECT_THAT(std::string(writer->Append(values.data(), 32).message()),
                AllOf(HasSubstr("\"blk.0.w\" has 3e+08"), HasSubstr("take BF16 or F32")));
  }
}

TEST_F(GgufFileTest, ErrorsNameThePath) {
  const std::string path = directory_ / "none/a.gguf";
  EXPECT_THAT(std::string(GgufWriter::Create(path, {}, {}).status().message()), HasSubstr(path));
}

// The scale by definition: the first of all F16, in order, that is large enough.
float SlowScale(const float* block) {
  double largest = 0;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::abs(double{block[i]}));
  uint16_t half = 0;
  while (HalfValue(half) < static_cast<float>(largest) / 127) ++half;
  return HalfValue(half);
}

TEST(Q8Test, IsTheDefinition) {
  // The smallest scales are subnormal, whose steps are coarse.
  for (const double scale : {1.0, 1e-3, 1e-5, 1e-7, 1e6}) {
    const std::vector<float> values = Numbers(32 * 50, scale);
    std::vector<char> blocks(34 * 50);
    ASSERT_EQ(ToQ8(values.data(), 50, blocks.data()), 32 * 50);
    double sum = 0;
    for (int block = 0; block < 50; ++block) {
      uint16_t bits;
      std::memcpy(&bits, blocks.data() + 34 * block, sizeof(bits));
      const double step = HalfValue(bits);
      ASSERT_EQ(step, SlowScale(values.data() + 32 * block));
      for (int i = 0; i < 32; ++i) {
        const int q = static_cast<int8_t>(blocks[34 * block + 2 + i]);
        ASSERT_GE(q, -127);
        // Half a step, and the rounding of the quotient to F32.
        ASSERT_LE(std::abs(q * step - values[32 * block + i]), step * (0.5 + 127 * 0x1p-24));
        sum += std::abs(q);
      }
    }
    EXPECT_GT(sum, 0);
  }
}

TEST(Q8Test, ZerosAndWhatIsNotFinite) {
  std::vector<float> values(64, 0);
  std::vector<char> blocks(68, 'x');
  EXPECT_EQ(ToQ8(values.data(), 2, blocks.data()), 64);
  EXPECT_EQ(std::string(blocks.begin(), blocks.end()), std::string(68, '\0'));
  values[40] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(ToQ8(values.data(), 2, blocks.data()), 40);
  values[40] = std::nanf("");
  EXPECT_EQ(ToQ8(values.data(), 2, blocks.data()), 40);
  values[40] = 127 * 65504.0f;
  EXPECT_EQ(ToQ8(values.data(), 2, blocks.data()), 64);
  values[40] = 128 * 65504.0f;
  EXPECT_EQ(ToQ8(values.data(), 2, blocks.data()), 40);
}

}  // namespace
}  // namespace strake
