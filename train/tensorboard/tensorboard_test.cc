#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "train/run/train_observer.h"
#include "train/tensorboard/tensorboard_event.h"
#include "train/tensorboard/tensorboard_log.h"
#include "train/tensorboard/tensorboard_record.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::ReadFile;
using testing::TempDirectory;
using testing::WriteFile;

std::string FileOf(const std::vector<TensorBoardEvent>& events) {
  std::string file;
  for (const TensorBoardEvent& event : events) {
    AppendTensorBoardRecord(EncodeTensorBoardEvent(event), &file);
  }
  return file;
}

std::vector<TensorBoardEvent> Read(const std::string& path) {
  const auto events = ReadTensorBoardEvents(path);
  EXPECT_TRUE(events.ok()) << events.status();
  return events.ok() ? *events : std::vector<TensorBoardEvent>();
}

// What tests/tensorboard_oracle.py makes with TensorBoard's own code.
std::vector<TensorBoardEvent> GoldenEvents() {
  return {{.wall_time = 1.5, .file_version = kTensorBoardVersion},
          {.wall_time = 1796200000.25,
           .step = 1,
           .values = {{.tag = "train/loss", .scalar = 0.1f},
                      {.tag = "sources/Üß/loss", .scalar = -3e38f}}},
          {.wall_time = 1796200001,
           .step = int64_t{1} << 40,
           .values = {{.tag = "sample", .text = "**prompt** Üß\n"}}}};
}

TEST(TensorBoardEventTest, FilesHaveTheBytesOfTensorBoardsWriter) {
  const std::string path = "train/tensorboard/testdata/events.golden";
  EXPECT_EQ(FileOf(GoldenEvents()), ReadFile(path));
  EXPECT_EQ(Read(path), GoldenEvents());
}

TEST(TensorBoardEventTest, BytesThatAreNoUtf8AreReplaced) {
  const auto event = ParseTensorBoardEvent(
      EncodeTensorBoardEvent({.values = {{.tag = "a\xff", .text = "\xc3(\xf0\x9f\x98"}}}));
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_EQ(event->values[0].tag, "a\uFFFD");
  EXPECT_EQ(event->values[0].text, "\uFFFD(\uFFFD\uFFFD\uFFFD");
}

TEST(TensorBoardEventTest, OtherFieldsAreSkipped) {
  // A graph (field 4), a session log (7) and an image (4 of a value), as other writers have them.
  const std::string bytes = "\x22\x02zz\x10\x05\x3a\x02\x08\x01\x2a\x09\x0a\x07\x0a\x01t\x22\x02zz";
  const auto event = ParseTensorBoardEvent(bytes);
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_EQ(*event, (TensorBoardEvent{.step = 5, .values = {{.tag = "t"}}}));
  EXPECT_EQ(ParseTensorBoardEvent("\x22\x7fz").status().message(),
            "no event of TensorBoard: end of buffer exception");
}

TEST(TensorBoardRecordTest, EachFlippedBitIsNoticed) {
  std::string file;
  AppendTensorBoardRecord("some data", &file);
  for (size_t bit = 0; bit < 8 * file.size(); ++bit) {
    std::string flipped = file;
    flipped[bit / 8] ^= static_cast<char>(1 << bit % 8);
    absl::string_view rest = flipped;
    EXPECT_TRUE(absl::IsDataLoss(TakeTensorBoardRecord(&rest).status())) << bit;
    EXPECT_EQ(rest.empty(), bit >= 8 * 12) << "the next record is known where the length is";
  }
  for (size_t size = 0; size < file.size(); ++size) {
    absl::string_view rest = absl::string_view(file).substr(0, size);
    EXPECT_TRUE(absl::IsOutOfRange(TakeTensorBoardRecord(&rest).status())) << size;
    EXPECT_EQ(rest.size(), size);
  }
}

class TensorBoardLogTest : public ::testing::Test {
 protected:
  // A start in a directory of the run.
  absl::StatusOr<TensorBoardLog> Open(int64_t step, bool evaluates = false, bool samples = false) {
    return TensorBoardLog::Open(
        folder_, {.step = step, .evaluates = evaluates, .makes_sample = samples, .held_run = true});
  }
  // The tags of each event but the first, behind its step: "1 train/loss".
  std::vector<std::string> FirstTags() const {
    std::vector<std::string> tags;
    for (const TensorBoardEvent& event : Read(path_)) {
      if (!event.values.empty()) {
        tags.push_back(absl::StrCat(event.step, " ", event.values[0].tag));
      }
    }
    return tags;
  }
  // Two steps, the latter with an evaluation, a task and a sample.
  void LogTwoSteps() {
    auto log = Open(0);
    ASSERT_TRUE(log.ok()) << log.status();
    for (const int64_t step : {1, 2}) ASSERT_TRUE(log->LogStep({.step = step}).ok());
    ASSERT_TRUE(log->LogEval({.step = 2, .name = "books"}).ok());
    ASSERT_TRUE(log->LogTask({.step = 2, .name = "arc"}).ok());
    ASSERT_TRUE(log->LogSample({.step = 2}).ok());
    ASSERT_TRUE(log->Sync().ok());
  }

  const TempDirectory dir_;
  const std::string folder_ = dir_ / "tensorboard";
  const std::string path_ = folder_ + "/events.out.tfevents.strake";
};

// Tag and value of each scalar.
std::vector<std::string> Scalars(const TensorBoardEvent& event) {
  std::vector<std::string> scalars;
  for (const TensorBoardValue& value : event.values) {
    scalars.push_back(absl::StrCat(value.tag, " ", value.scalar.value_or(NAN)));
  }
  return scalars;
}

TEST_F(TensorBoardLogTest, EventsHaveTheseValues) {
  auto log = Open(0);
  ASSERT_TRUE(log.ok()) << log.status();
  StepMetrics step = {.step = 1,
                      .loss = 0.5,
                      .lr = 0.25,
                      .grad_norm = 2,
                      .tokens = 256,
                      .targets = 256,
                      .seconds = 4,
                      .tokens_per_second = 64,
                      .epoch = 0.5,
                      .mfu = 0.25};
  ASSERT_TRUE(log->LogStep(step).ok());
  step.targets = 200;
  step.mfu = 0;
  step.sources = {{"books", 192, 192, 1.5}, {"chat", 64, 8, 3}};
  ASSERT_TRUE(log->LogStep(step).ok());
  ASSERT_TRUE(log->LogEval({.step = 1, .val_loss = 1.25}).ok());
  ASSERT_TRUE(log->LogEval({.step = 1, .name = "b", .val_loss = 2, .bits_per_byte = 3}).ok());
  ASSERT_TRUE(
      log->LogTask({.step = 1, .name = "arc", .acc = 0.5, .acc_norm = 0.25, .num_examples = 8})
          .ok());
  ASSERT_TRUE(log->LogSample({.step = 1, .prompt = "a\nb", .continuation = " <c>"}).ok());
  const std::vector<TensorBoardEvent> events = Read(path_);
  ASSERT_EQ(events.size(), 7) << "each is there as soon as it was logged";
  EXPECT_EQ(events[0].file_version, kTensorBoardVersion);
  EXPECT_THAT(Scalars(events[1]),
              ElementsAre("train/loss 0.5", "train/learning_rate 0.25", "train/grad_norm 2",
                          "train/tokens 256", "train/seconds 4", "train/tokens_per_second 64",
                          "train/epoch 0.5", "train/mfu 0.25"));
  EXPECT_THAT(Scalars(events[2]),
              ElementsAre("train/loss 0.5", "train/learning_rate 0.25", "train/grad_norm 2",
                          "train/tokens 256", "train/targets 200", "train/seconds 4",
                          "train/tokens_per_second 64", "train/epoch 0.5", "sources/books/loss 1.5",
                          "sources/books/tokens 192", "sources/chat/loss 3",
                          "sources/chat/tokens 64", "sources/chat/targets 8"));
  EXPECT_THAT(Scalars(events[3]), ElementsAre("validation/loss 1.25"));
  EXPECT_THAT(Scalars(events[4]),
              ElementsAre("validation/b/loss 2", "validation/b/bits_per_byte 3"));
  EXPECT_THAT(Scalars(events[5]),
              ElementsAre("tasks/arc/acc 0.5", "tasks/arc/acc_norm 0.25", "tasks/arc/examples 8"));
  EXPECT_EQ(events[6].values[0].text, "**prompt**\n\n    a\n    b\n\n**continuation**\n\n     <c>");
  for (size_t i = 1; i < events.size(); ++i) {
    EXPECT_EQ(events[i].step, 1);
    EXPECT_THAT(events[i].wall_time, Ge(events[i - 1].wall_time));
  }
}

TEST_F(TensorBoardLogTest, ResumingCutsBackToTheStep) {
  const std::vector<std::string> second = {"2 train/loss", "2 validation/books/loss",
                                           "2 tasks/arc/acc", "2 sample"};
  struct Case {
    int64_t step;
    bool evaluates, samples;
    std::vector<std::string> tags;
  };
  for (const Case& c : std::vector<Case>{
           {0, false, false, {}},
           {1, false, false, {"1 train/loss"}},
           {2, true, true, {"1 train/loss", "2 train/loss"}},
           {2, true, false, {"1 train/loss", "2 train/loss", "2 sample"}},
           {2, false, true, {"1 train/loss", "2 train/loss", second[1], second[2]}},
           {2, false, false, {"1 train/loss", "2 train/loss", second[1], second[2], "2 sample"}}}) {
    LogTwoSteps();
    ASSERT_TRUE(Open(c.step, c.evaluates, c.samples).ok());
    EXPECT_EQ(FirstTags(), c.tags) << c.step << c.evaluates << c.samples;
  }
}

TEST_F(TensorBoardLogTest, WhatIsKeptHasItsBytesAndStaysTheSameFile) {
  LogTwoSteps();
  const std::string whole = ReadFile(path_);
  const std::string link = dir_ / "open";  // as a TensorBoard has it
  std::filesystem::create_hard_link(path_, link);
  for (const int64_t step : {2, 1}) {
    ASSERT_TRUE(Open(step).ok());
    EXPECT_EQ(ReadFile(path_), whole.substr(0, ReadFile(path_).size()));
    EXPECT_TRUE(std::filesystem::equivalent(path_, link));
  }
}

TEST_F(TensorBoardLogTest, ARecordThatIsCutIsMended) {
  LogTwoSteps();
  const std::string whole = ReadFile(path_);
  for (size_t size = 0; size < whole.size(); ++size) {
    WriteFile(path_, whole.substr(0, size));
    const auto log = Open(2);
    ASSERT_TRUE(log.ok()) << log.status();
    EXPECT_EQ(Read(path_).at(0).file_version, kTensorBoardVersion) << size;
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/damaged-records")) << size;
  }
  EXPECT_EQ(FirstTags().size(), 4) << "all but the sample, whose record lacked a byte";
}

TEST_F(TensorBoardLogTest, DamagedRecordsAreKeptAside) {
  LogTwoSteps();
  const std::string whole = ReadFile(path_);
  std::string file = whole;
  const size_t second = FileOf({Read(path_)[0]}).size();
  file[second + 20] ^= 1;
  WriteFile(path_, file);
  const auto log = Open(2);
  ASSERT_TRUE(log.ok()) << log.status();
  EXPECT_THAT(log->notes(), ElementsAre(path_ + " had damaged records, which are in " + folder_ +
                                        "/damaged-records now"));
  EXPECT_THAT(FirstTags(), ElementsAre("2 train/loss", "2 validation/books/loss", "2 tasks/arc/acc",
                                       "2 sample"));
  EXPECT_EQ(ReadFile(folder_ + "/damaged-records") + ReadFile(path_).substr(second),
            file.substr(second));
  // Nothing tells where the next record begins.
  file = whole;
  file[second] ^= 1;
  WriteFile(path_, file);
  ASSERT_TRUE(Open(2).ok());
  EXPECT_THAT(FirstTags(), IsEmpty());
  EXPECT_THAT(ReadFile(folder_ + "/damaged-records"), HasSubstr(file.substr(second)));
}

TEST_F(TensorBoardLogTest, MissingStepsAreNoted) {
  LogTwoSteps();
  EXPECT_THAT(Open(2)->notes(), IsEmpty());
  EXPECT_THAT(Open(3)->notes(),
              ElementsAre(path_ + " ends at step 2, before the checkpoint of step 3"));
}

TEST_F(TensorBoardLogTest, AFileWithoutValuesIsNobodysElse) {
  for (int start = 0; start < 2; ++start) {
    const auto log = TensorBoardLog::Open(folder_, {});
    ASSERT_TRUE(log.ok()) << log.status();
    EXPECT_EQ(Read(path_).size(), 1);
  }
}

TEST_F(TensorBoardLogTest, AFileOfSomeoneElseIsLeftAsItIs) {
  LogTwoSteps();
  const std::string before = ReadFile(path_);
  EXPECT_EQ(TensorBoardLog::Open(folder_, {}).status().message(),
            path_ + " is there, and is not of this run; move it away");
  EXPECT_EQ(ReadFile(path_), before);
  WriteFile(path_, "notes");
  EXPECT_FALSE(TensorBoardLog::Open(folder_, {}).ok());
  WriteFile(path_, before);
  std::filesystem::rename(path_, dir_ / "away");
  std::filesystem::create_symlink(dir_ / "away", path_);
  EXPECT_THAT(Open(2).status().message(), HasSubstr("cannot open " + path_));
  std::filesystem::rename(folder_, dir_ / "elsewhere");
  std::filesystem::create_directory_symlink(dir_ / "elsewhere", folder_);
  EXPECT_EQ(Open(2).status().message(),
            folder_ + " is a symbolic link, which is not written through; move it away");
  EXPECT_EQ(ReadFile(dir_ / "away"), before);
}

TEST_F(TensorBoardLogTest, ReadingNamesTheRecord) {
  LogTwoSteps();
  std::string file = ReadFile(path_);
  WriteFile(path_, file.substr(0, file.size() - 1));
  EXPECT_EQ(ReadTensorBoardEvents(path_).status().message(),
            path_ + ": record 6: the file ends within a record");
  file.back() ^= 1;
  WriteFile(path_, file);
  EXPECT_EQ(ReadTensorBoardEvents(path_).status().message(),
            path_ + ": record 6: the checksum of a record is wrong");
}

}  // namespace
}  // namespace strake
