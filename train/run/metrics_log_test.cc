#include "train/run/metrics_log.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "core/base/json.h"
#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using testing::ReadFile;
using testing::TempDirectory;
using testing::WriteFile;

// A start in a directory of the run.
TrainStart At(int64_t step, bool evaluates = false) {
  return {.step = step, .evaluates = evaluates, .held_run = true};
}

StepMetrics Step(int64_t step) {
  return {.step = step,
          .loss = 0.1,
          .lr = 1e-5,
          .grad_norm = 2,
          .tokens = 256,
          .targets = 256,
          .seconds = 0.5,
          .tokens_per_second = 512,
          .time = 1800000000.125,
          .epoch = 0.5,
          .mfu = 0.25};
}

TEST(MetricsLogTest, LinesHaveTheseKeysInThisOrder) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  auto log = MetricsLog::Open(path, At(0));
  ASSERT_TRUE(log.ok()) << log.status();
  EXPECT_EQ(ReadFile(path), "");
  ASSERT_TRUE(log->LogStep(Step(1)).ok());
  const std::string first =
      "{\"step\":1,\"loss\":0.1,\"lr\":1e-05,\"grad_norm\":2,\"tokens\":256,\"seconds\":0.5,"
      "\"tokens_per_second\":512,\"time\":1800000000.125,\"epoch\":0.5,\"mfu\":0.25}\n";
  EXPECT_EQ(ReadFile(path), first) << "a line is there as soon as it was logged";
  ASSERT_TRUE(log->LogEval({.step = 1, .val_loss = 1.25}).ok());
  ASSERT_TRUE(log->Sync().ok());
  EXPECT_EQ(ReadFile(path), first + "{\"step\":1,\"val_loss\":1.25}\n");
}

TEST(MetricsLogTest, SourcesAreInTheLineOfTheStep) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  auto log = MetricsLog::Open(path, At(0));
  ASSERT_TRUE(log.ok()) << log.status();
  StepMetrics step = Step(1);
  step.sources = {{"books", 192, 192, 1.5}, {"\"a\",b.txt", 64, 64, 0.1}};
  ASSERT_TRUE(log->LogStep(step).ok());
  EXPECT_THAT(
      ReadFile(path),
      ::testing::EndsWith(",\"epoch\":0.5,\"mfu\":0.25,\"sources\":{\"books\":{\"tokens\":192,"
                          "\"loss\":1.5},\"\\\"a\\\",b.txt\":{\"tokens\":64,\"loss\":0.1}}}\n"));
}

TEST(MetricsLogTest, AnUnknownUtilisationIsLeftOut) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  auto log = MetricsLog::Open(path, At(0));
  ASSERT_TRUE(log.ok()) << log.status();
  StepMetrics step = Step(1);
  step.mfu = 0;
  ASSERT_TRUE(log->LogStep(step).ok());
  EXPECT_THAT(ReadFile(path), ::testing::EndsWith(",\"epoch\":0.5}\n"));
}

TEST(MetricsLogTest, TargetsAreToldWhereTheyAreNotAllTokens) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  auto log = MetricsLog::Open(path, At(0));
  ASSERT_TRUE(log.ok()) << log.status();
  StepMetrics step = Step(1);
  step.targets = 200;
  step.sources = {{"books", 192, 192, 1.5}, {"chat", 64, 8, 0.1}};
  ASSERT_TRUE(log->LogStep(step).ok());
  EXPECT_THAT(ReadFile(path), ::testing::HasSubstr("\"tokens\":256,\"targets\":200,\"seconds\""));
  EXPECT_THAT(ReadFile(path),
              ::testing::EndsWith("\"books\":{\"tokens\":192,\"loss\":1.5},"
                                  "\"chat\":{\"tokens\":64,\"targets\":8,\"loss\":0.1}}}\n"));
}

TEST(MetricsLogTest, NumbersReadBackExactly) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  for (const double value : {1.0 / 3, std::nextafter(2.0, 3.0), 5e-324, 1.7976931348623157e308,
                             -0.1, 1e22, 123456789.0, 0.0}) {
    auto log = MetricsLog::Open(path, At(0));
    ASSERT_TRUE(log.ok());
    ASSERT_TRUE(log->LogEval({.step = int64_t{1} << 62, .val_loss = value}).ok());
    const auto json = ParseJson(ReadFile(path), path);
    ASSERT_TRUE(json.ok()) << json.status();
    EXPECT_EQ((*json)["val_loss"].get<double>(), value);
    EXPECT_EQ((*json)["step"].get<int64_t>(), int64_t{1} << 62);
  }
}

TEST(MetricsLogTest, WhatIsNotFiniteIsNull) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  auto log = MetricsLog::Open(path, At(0));
  ASSERT_TRUE(log.ok());
  for (const double value : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    ASSERT_TRUE(log->LogEval({.step = 1, .val_loss = value}).ok());
  }
  EXPECT_EQ(ReadFile(path), "{\"step\":1,\"val_loss\":null}\n{\"step\":1,\"val_loss\":null}\n");
}

constexpr char kTwoSteps[] =
    "{\"step\":1,\"loss\":3}\n{\"step\":1,\"val_loss\":2}\n{\"step\":2,\"loss\":1}\n";

TEST(MetricsLogTest, ResumingCutsBackToTheStep) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  const std::string garbage[] = {"",
                                 "{\"step\":3,\"loss\":1}\n",
                                 "{\"step\":3,\"loss\":1}\n{\"step\":4,\"lo",
                                 "{\"st",
                                 std::string(100, '\0'),
                                 "\n\n[2]\n\"step\"\n{\"step\":\"1\"}\n{\"step\":1.5}\n{}\n2",
                                 "{\"step\":18446744073709551615}\n",
                                 "{\"step\":2,\"loss\":{\"step\":3,\"loss\":1}\n"};
  for (const std::string& end : garbage) {
    WriteFile(path, kTwoSteps + end);
    auto log = MetricsLog::Open(path, At(2));
    ASSERT_TRUE(log.ok()) << log.status();
    EXPECT_EQ(ReadFile(path), kTwoSteps) << end;
    ASSERT_TRUE(log->LogEval({.step = 3, .val_loss = 0}).ok());
    EXPECT_EQ(ReadFile(path), std::string(kTwoSteps) + "{\"step\":3,\"val_loss\":0}\n");
  }
}

TEST(MetricsLogTest, KeepsDamagedLinesAside) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  WriteFile(path, "{\"step\":1}\n{\"ste\n{\"step\":2}\n{\"step\":3}\n{\"st");
  auto log = MetricsLog::Open(path, At(2));
  ASSERT_TRUE(log.ok()) << log.status();
  EXPECT_EQ(ReadFile(path), "{\"step\":1}\n{\"step\":2}\n");
  EXPECT_EQ(log->notes(), std::vector<std::string>{path + " had damaged lines, which are in " +
                                                   path + ".damaged now"});
  EXPECT_EQ(ReadFile(path + ".damaged"), "{\"ste\n");
  log = MetricsLog::Open(path, At(2));
  ASSERT_TRUE(log.ok()) << log.status();
  EXPECT_TRUE(log->notes().empty());
  WriteFile(path, "{\"step\":1}\n[]\n");
  ASSERT_TRUE(MetricsLog::Open(path, At(2)).ok());
  EXPECT_EQ(ReadFile(path + ".damaged"), "{\"ste\n[]\n");
}

TEST(MetricsLogTest, BlankLinesAreNotDamaged) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  WriteFile(path, "\n{\"step\":1}\n \t\r\n{\"step\":2}\n\n");
  const auto log = MetricsLog::Open(path, At(2));
  ASSERT_TRUE(log.ok()) << log.status();
  EXPECT_EQ(ReadFile(path), "{\"step\":1}\n{\"step\":2}\n");
  EXPECT_TRUE(log->notes().empty());
  EXPECT_FALSE(std::filesystem::exists(path + ".damaged"));
}

TEST(MetricsLogTest, AnEvaluationThatIsRepeatedIsCut) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  const std::string steps = "{\"step\":1,\"val_loss\":2}\n{\"step\":2,\"loss\":1}\n";
  const std::string evaluation = "{\"step\":2,\"val_loss\":2}\n";
  for (const bool evaluates : {false, true}) {
    WriteFile(path, steps + evaluation);
    ASSERT_TRUE(MetricsLog::Open(path, At(2, evaluates)).ok());
    EXPECT_EQ(ReadFile(path), evaluates ? steps : steps + evaluation);
  }
}

TEST(MetricsLogTest, AFileOfSomeoneElseIsLeftAsItIs) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  for (const int64_t step : {0, 5}) {
    for (const char* text : {"{\"accuracy\": 1}\n", "notes", kTwoSteps}) {
      WriteFile(path, text);
      EXPECT_EQ(MetricsLog::Open(path, {.step = step}).status().message(),
                path + " is there, and is not of this run; move it away");
      EXPECT_EQ(ReadFile(path), text);
    }
  }
  WriteFile(path, "");
  EXPECT_TRUE(MetricsLog::Open(path, {}).ok());
  std::filesystem::remove(path);
  std::filesystem::create_symlink("away", path);
  EXPECT_FALSE(MetricsLog::Open(path, At(3)).ok());
}

TEST(MetricsLogTest, MissingStepsAreNoted) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  WriteFile(path, kTwoSteps);
  EXPECT_EQ(MetricsLog::Open(path, At(3))->notes(),
            std::vector<std::string>{path + " ends at step 2, before the checkpoint of step 3"});
  EXPECT_TRUE(MetricsLog::Open(path, At(2))->notes().empty());
}

TEST(MetricsLogTest, ADeletedFileComesBackWithItsLines) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  auto log = MetricsLog::Open(path, At(0));
  ASSERT_TRUE(log.ok());
  ASSERT_TRUE(log->LogEval({.step = 1, .val_loss = 1}).ok());
  std::filesystem::remove(path);
  ASSERT_TRUE(log->LogEval({.step = 2, .val_loss = 1}).ok());
  ASSERT_TRUE(log->Sync().ok());
  ASSERT_TRUE(log->LogEval({.step = 3, .val_loss = 1}).ok());
  EXPECT_EQ(ReadFile(path),
            "{\"step\":1,\"val_loss\":1}\n{\"step\":2,\"val_loss\":1}\n"
            "{\"step\":3,\"val_loss\":1}\n");
}

TEST(MetricsLogTest, AFreshRunStartsAnEmptyFile) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  WriteFile(path, kTwoSteps);
  ASSERT_TRUE(MetricsLog::Open(path, At(0)).ok());
  EXPECT_EQ(ReadFile(path), "");
  std::filesystem::remove(path);
  ASSERT_TRUE(MetricsLog::Open(path, At(5)).ok());
  EXPECT_EQ(ReadFile(path), "");
}

TEST(MetricsLogTest, AKilledWriterLosesNothingThatItLogged) {
  const TempDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  const pid_t child = fork();
  if (child == 0) {
    auto log = MetricsLog::Open(path, At(0));
    for (int step = 1; step <= 100; ++step) {
      if (!log.ok() || !log->LogStep(Step(step)).ok()) _exit(1);
    }
    _exit(0);  // no destructor and no flush of a stream
  }
  int status;
  waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  const std::string before = ReadFile(path);
  ASSERT_TRUE(MetricsLog::Open(path, At(100)).ok());
  EXPECT_EQ(ReadFile(path), before);
  ASSERT_TRUE(MetricsLog::Open(path, At(99)).ok());
  EXPECT_EQ(ReadFile(path), before.substr(0, before.find("{\"step\":100,")));
}

TEST(MetricsLogTest, ErrorsNameThePath) {
  const TempDirectory dir;
  const auto log = MetricsLog::Open(dir / "none/metrics.jsonl", At(0));
  EXPECT_EQ(log.status().message(),
            "cannot create " + (dir / "none/metrics.jsonl.tmp") + ": No such file or directory");
  EXPECT_FALSE(MetricsLog::Open(dir.path(), At(3)).ok());
}

}  // namespace
}  // namespace strake
