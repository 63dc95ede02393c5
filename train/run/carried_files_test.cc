#include "train/run/carried_files.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::TempDirectory;
using testing::WriteFile;

class CarriedFilesTest : public ::testing::Test {
 protected:
  CarriedFiles Read() {
    skipped_.clear();
    auto files = ReadCarriedFiles(directory_.path(), &skipped_);
    EXPECT_TRUE(files.ok()) << files.status();
    return *std::move(files);
  }
  // A file without blocks on the disk.
  void WriteSparse(const std::string& name, int64_t num_bytes) {
    WriteFile(directory_ / name, "");
    std::filesystem::resize_file(directory_ / name, num_bytes);
  }

  const TempDirectory directory_;
  std::vector<std::string> skipped_;
};

TEST_F(CarriedFilesTest, WhatOtherProgramsReadIsCarried) {
  CarriedFiles expected;
  for (const char* name :
       {"generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
        "tokenizer.model", "chat_template.jinja", "preprocessor_config.json", "README.md",
        "LICENSE", "tokenization_mine.py", "qwen.tiktoken", "a name with spaces"}) {
    expected[name] = std::string("\0\xff\r\n", 4) + name;
    WriteFile(directory_ / name, expected[name]);
  }
  WriteFile(directory_ / "empty.txt", "");
  expected["empty.txt"] = "";
  EXPECT_EQ(Read(), expected);
  EXPECT_THAT(skipped_, IsEmpty());
}

TEST_F(CarriedFilesTest, TheFolderOfChatTemplatesIsCarried) {
  const std::string folder = kChatTemplatesFolder;
  for (const char* of : {"", "/deeper"}) {
    std::filesystem::create_directory(directory_ / folder + of);
    for (const char* name : {"/rag.jinja", "/tool_use.jinja", "/weights.bin", "/.hidden"}) {
      WriteFile(directory_ / folder + of + name, name);
    }
  }
  WriteSparse(folder + "/large.jinja", kMaxOtherFileBytes + 1);
  std::filesystem::create_symlink("rag.jinja", directory_ / folder + "/same.jinja");
  EXPECT_EQ(Read(), (CarriedFiles{{folder + "/rag.jinja", "/rag.jinja"},
                                  {folder + "/same.jinja", "/rag.jinja"},
                                  {folder + "/tool_use.jinja", "/tool_use.jinja"}}));
  EXPECT_THAT(skipped_, ElementsAre((directory_ / folder) +
                                    "/large.jinja is not carried over: it is larger than "
                                    "4.00 MiB"));
  const TempDirectory elsewhere;
  WriteFile(elsewhere / "secret", "x");
  std::filesystem::remove_all(directory_ / folder);
  std::filesystem::create_symlink(elsewhere.path(), directory_ / folder);
  EXPECT_THAT(Read(), IsEmpty());
  EXPECT_THAT(skipped_, ElementsAre((directory_ / folder) +
                                    " is not carried over: it is a link to another folder"));
}

TEST_F(CarriedFilesTest, WeightsAndWhatACheckpointHasOfItsOwnAreNot) {
  for (const char* name : {"config.json",
                           "run.json",
                           "manifest.json",
                           "model.safetensors",
                           "optimizer.safetensors",
                           "model.safetensors.index.json",
                           "pytorch_model.bin",
                           "pytorch_model.bin.index.json",
                           "tf_model.h5",
                           "flax_model.msgpack",
                           "rust_model.ot",
                           "model.GGUF",
                           "model.onnx",
                           "optimizer.pt",
                           "rng_state.pth",
                           "trainer_state.json",
                           "training_args.bin",
                           "tokens.bin",
                           "old.zip",
                           "run.json.tmp",
                           ".gitattributes",
                           ".lock"}) {
    WriteFile(directory_ / name, "x");
  }
  std::filesystem::create_directory(directory_ / "original");
  ASSERT_EQ(mkfifo((directory_ / "pipe").c_str(), 0666), 0);
  EXPECT_THAT(Read(), IsEmpty());
  EXPECT_THAT(skipped_, IsEmpty());
}

TEST_F(CarriedFilesTest, LargeFilesAreNot) {
  WriteSparse("notes.txt", kMaxOtherFileBytes + 1);
  WriteSparse("tokenizer.json", kMaxOtherFileBytes + 1);
  WriteSparse("tokenizer.model", kMaxTokenizerFileBytes + 1);
  WriteSparse("small.txt", kMaxOtherFileBytes);
  const CarriedFiles files = Read();
  EXPECT_EQ(files.size(), 2);
  EXPECT_EQ(files.at("tokenizer.json").size(), kMaxOtherFileBytes + 1);
  EXPECT_EQ(files.at("small.txt").size(), kMaxOtherFileBytes);
  EXPECT_THAT(skipped_, ElementsAre((directory_ / "notes.txt") +
                                        " is not carried over: it is larger than 4.00 MiB",
                                    (directory_ / "tokenizer.model") +
                                        " is not carried over: it is larger than 64.0 MiB"));
}

TEST_F(CarriedFilesTest, TooManyFilesAreRefused) {
  for (int i = 0; i < 5; ++i) WriteSparse("vocab" + std::to_string(i), kMaxTokenizerFileBytes);
  const auto files = ReadCarriedFiles(directory_.path(), &skipped_);
  EXPECT_EQ(std::string(files.status().message()),
            directory_.path() +
                ": the files beside the weights, which are carried over, are larger than 256.0 "
                "MiB; leave only the model's there");
}

TEST_F(CarriedFilesTest, LinksOutAreNotFollowed) {
  const TempDirectory elsewhere;
  WriteFile(elsewhere / "secret", "x");
  WriteFile(directory_ / "vocab.json", "{}");
  std::filesystem::create_symlink("vocab.json", directory_ / "words.json");
  std::filesystem::create_symlink(elsewhere / "secret", directory_ / "tokenizer.json");
  EXPECT_EQ(Read(), (CarriedFiles{{"vocab.json", "{}"}, {"words.json", "{}"}}));
  EXPECT_THAT(skipped_, ElementsAre((directory_ / "tokenizer.json") +
                                    " is not carried over: it is a link to another folder"));
}

TEST_F(CarriedFilesTest, TheCacheOfHuggingFaceHubIsRead) {
  const std::string snapshot = directory_ / "snapshots/1a2b";
  std::filesystem::create_directories(snapshot);
  std::filesystem::create_directory(directory_ / "blobs");
  WriteFile(directory_ / "blobs/9f8e", "{}");
  std::filesystem::create_symlink("../../blobs/9f8e", snapshot + "/tokenizer.json");
  const auto files = ReadCarriedFiles(snapshot, &skipped_);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(*files, (CarriedFiles{{"tokenizer.json", "{}"}}));
  EXPECT_THAT(skipped_, IsEmpty());
}

TEST_F(CarriedFilesTest, AFileThatCannotBeReadIsNamed) {
  std::filesystem::create_symlink("gone", directory_ / "tokenizer.json");
  const auto files = ReadCarriedFiles(directory_.path(), &skipped_);
  EXPECT_EQ(std::string(files.status().message()),
            (directory_ / "tokenizer.json") + ": cannot be read: No such file or directory");
  EXPECT_EQ(std::string(ReadCarriedFiles(directory_ / "none", &skipped_).status().message()),
            "cannot list " + (directory_ / "none") + ": No such file or directory");
}

TEST_F(CarriedFilesTest, NamesThatAreNoPlainTextAreNotCarried) {
  WriteFile(directory_ / "a\nb", "x");
  EXPECT_THAT(Read(), IsEmpty());
  EXPECT_EQ(skipped_.size(), 1);
}

}  // namespace
}  // namespace strake
