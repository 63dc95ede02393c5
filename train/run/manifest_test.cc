#include "train/run/manifest.h"

#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/crc32c.h"
#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/safetensors.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ReadFile;
using testing::TempDirectory;
using testing::WriteFile;

// A text and a file of two tensors, with their manifest.
class ManifestTest : public ::testing::Test {
 protected:
  ManifestTest() {
    const std::string text = "{\"a\": 1}\n";
    WriteFile(directory_ / "config.json", text);
    Manifest manifest;
    manifest["config.json"] = {{.num_bytes = 9, .crc32c = ExtendCrc32c(0, text)}};
    auto writer = SafetensorsWriter::Create(directory_ / "model.safetensors",
                                            {{"first", {3}}, {"none", {0}}, {"second", {2, 2}}});
    CHECK(writer.ok());
    const float values[] = {1, 2, 3, 4, 5, 6, 7};
    CHECK(writer->Seek(2).ok() && writer->Append(values + 3, 4).ok());
    CHECK(writer->Seek(0).ok() && writer->Append(values, 1).ok());
    CHECK(writer->Append(values + 1, 2).ok() && writer->Finish().ok());
    manifest["model.safetensors"] = writer->parts();
    WriteFile(directory_ / "manifest.json", ToJson(manifest));
  }

  std::string Error() const { return std::string(VerifyCheckpoint(directory_.path()).message()); }
  int64_t Size(const std::string& file) const {
    return std::filesystem::file_size(directory_ / file);
  }
  void Flip(const std::string& file, int64_t byte, int bit) const {
    std::string bytes = ReadFile(directory_ / file);
    bytes[byte] ^= 1 << bit;
    WriteFile(directory_ / file, bytes);
  }

  const TempDirectory directory_;
};

TEST_F(ManifestTest, WholeFilesAgree) {
  EXPECT_EQ(Error(), "");
  const std::string text = ReadFile(directory_ / "manifest.json");
  const auto manifest = ParseManifest(text, "m");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(ToJson(*manifest), text);
  ASSERT_EQ(manifest->at("model.safetensors").size(), 4);
  EXPECT_EQ(manifest->at("model.safetensors")[3].name, "second");
  EXPECT_EQ(manifest->at("model.safetensors")[3].num_bytes, 16);
}

TEST_F(ManifestTest, EveryBitCounts) {
  for (const char* file : {"config.json", "model.safetensors", "manifest.json"}) {
    for (int64_t i = 0; i < 8 * Size(file); ++i) {
      Flip(file, i / 8, i % 8);
      EXPECT_EQ(VerifyCheckpoint(directory_.path()).code(), absl::StatusCode::kDataLoss)
          << file << ", bit " << i;
      EXPECT_THAT(Error(), HasSubstr(file));
      Flip(file, i / 8, i % 8);
    }
  }
  EXPECT_EQ(Error(), "");
}

TEST_F(ManifestTest, DamagedTensorsAreNamed) {
  Flip("model.safetensors", Size("model.safetensors") - 1, 0);
  EXPECT_EQ(Error(), (directory_ / "model.safetensors") +
                         ": tensor \"second\" is damaged; manifest.json has another checksum");
  Flip("model.safetensors", Size("model.safetensors") - 20, 0);
  EXPECT_THAT(Error(), HasSubstr("tensor \"first\" is damaged"));
}

TEST_F(ManifestTest, ReadersShareTheParts) {
  Flip("model.safetensors", Size("model.safetensors") - 1, 0);
  int num_errors = 0;
  for (int reader = 0; reader < 3; ++reader) {
    num_errors += !VerifyCheckpoint(directory_.path(), reader, 3).ok();
  }
  EXPECT_EQ(num_errors, 1);
}

TEST_F(ManifestTest, TellsOfTheBytesThatAReaderReads) {
  double all = 0;
  for (int reader = 0; reader < 3; ++reader) {
    std::vector<WorkState> told;
    ASSERT_TRUE(VerifyCheckpoint(directory_.path(), reader, 3, [&](const WorkState& work) {
                  told.push_back(work);
                }).ok());
    ASSERT_FALSE(told.empty());
    EXPECT_EQ(told.front().done, 0);
    EXPECT_LT(told.back().done, told.back().total);
    all += told.back().total;
  }
  EXPECT_EQ(all, Size("config.json") + Size("model.safetensors"));
}

TEST_F(ManifestTest, MissingAndCutFilesAreNamed) {
  ASSERT_EQ(truncate((directory_ / "model.safetensors").c_str(), 8), 0);
  EXPECT_THAT(Error(), AllOf(HasSubstr("model.safetensors: has 8 bytes, and was written with ")));
  std::filesystem::remove(directory_ / "config.json");
  EXPECT_THAT(Error(), HasSubstr("cannot read " + (directory_ / "config.json")));
  std::filesystem::remove(directory_ / "manifest.json");
  EXPECT_EQ(VerifyCheckpoint(directory_.path()).code(), absl::StatusCode::kNotFound);
}

TEST_F(ManifestTest, WeightsAreVerifiedWithoutOtherFiles) {
  Flip("config.json", 0, 0);
  EXPECT_EQ(VerifyWeights(directory_.path()), absl::OkStatus());
  Flip("model.safetensors", Size("model.safetensors") - 1, 0);
  EXPECT_THAT(VerifyWeights(directory_.path()).message(),
              HasSubstr("tensor \"second\" is damaged"));
  std::filesystem::remove(directory_ / "manifest.json");
  EXPECT_EQ(VerifyWeights(directory_.path()), absl::OkStatus());
}

TEST(ParseManifestTest, FilesLieBelowTheDirectory) {
  const auto error = [](const std::string& name) {
    return std::string(ParseManifest(ToJson({{name, {}}}), "m").status().message());
  };
  EXPECT_EQ(error("templates/a.jinja"), "");
  for (const std::string name :
       {"..", "../a", "templates/../../a", "/etc/passwd", "a//b", "a/", ""}) {
    EXPECT_EQ(error(name), "m: has no parts of " + name);
  }
}

TEST(ParseManifestTest, OtherTextsAreErrors) {
  for (const char* text : {"", "{}", "[1]", R"({"format_version": 1, "files": []})",
                           R"({"format_version": 2, "files": {}, "manifest": "00000000"})",
                           R"({"format_version": 1, "files": {}, "manifest": ""})",
                           R"({"format_version": 1, "files": {}, "manifest": "00000000"})"}) {
    EXPECT_EQ(ParseManifest(text, "m.json").status().code(), absl::StatusCode::kDataLoss) << text;
    EXPECT_THAT(std::string(ParseManifest(text, "m.json").status().message()), HasSubstr("m.json"));
  }
}

}  // namespace
}  // namespace strake
