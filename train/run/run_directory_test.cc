#include "train/run/run_directory.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <random>

#include "absl/strings/str_cat.h"
#include "core/base/durable_file.h"
#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::ReadFile;
using testing::TempDirectory;
using testing::WriteFile;

constexpr int kFiles = 3;
constexpr size_t kFileBytes = 50000;

// Writes a checkpoint of several files, in pieces and also in a folder, that all contain `version`.
absl::Status WriteVersion(const std::string& directory, int64_t version) {
  fs::create_directory(directory + "/sub");
  for (int i = 0; i < kFiles; ++i) {
    std::ofstream file(absl::StrCat(directory, i == 0 ? "/sub/" : "/", i), std::ios::binary);
    const std::string line = absl::StrCat(version, std::string(5000, ' '), "\n");
    for (size_t n = 0; n < kFileBytes; n += line.size()) file << line << std::flush;
  }
  return absl::OkStatus();
}

// The version that all of the checkpoint's files contain completely; -1 where they do not.
int64_t ReadVersion(const std::string& directory) {
  const std::string first = ReadFile(directory + "/sub/0");
  for (int i = 1; i < kFiles; ++i) {
    if (ReadFile(absl::StrCat(directory, "/", i)) != first) return -1;
  }
  if (first.size() < kFileBytes || first.back() != '\n') return -1;
  return std::stoll(first);
}

absl::Status Write(RunDirectory& run, int64_t step, int64_t version) {
  return run.WriteCheckpoint(
      step, [&](const std::string& directory) { return WriteVersion(directory, version); });
}

std::vector<std::string> Names(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(RunDirectoryTest, ListsCheckpointsByNumber) {
  const TempDirectory dir;
  const std::string out = dir / "runs/a";
  auto run = RunDirectory::Open(out);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_THAT(run->Checkpoints().value(), IsEmpty());
  EXPECT_EQ(run->LatestCheckpoint().value(), std::nullopt);
  for (const int64_t step : {100, 20, 3}) ASSERT_TRUE(Write(*run, step, step).ok());
  for (const char* other : {"step-", "step-04", "step-+5", "step-6x", "step--7", "other"}) {
    fs::create_directory(out + "/" + other);
  }
  WriteFile(out + "/step-8", "not a folder");
  EXPECT_THAT(run->Checkpoints().value(), ElementsAre(3, 20, 100));
  EXPECT_EQ(run->LatestCheckpoint().value(), 100);
  EXPECT_EQ(CheckpointPath(out, 100), out + "/step-100");
  EXPECT_EQ(ReadVersion(out + "/step-20"), 20);
}

TEST(RunDirectoryTest, ASecondHolderIsRefusedAndToldTheFirst) {
  const TempDirectory dir;
  {
    const auto run = RunDirectory::Open(dir.path());
    ASSERT_TRUE(run.ok());
    const auto second = RunDirectory::Open(dir.path());
    EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(second.status().message()),
                HasSubstr(absl::StrCat(dir.path(), " is in use: process ", getpid(), " holds ")));
  }
  EXPECT_TRUE(RunDirectory::Open(dir.path()).ok());
}

TEST(RunDirectoryTest, FoldersThatCannotBeMadeAreNamed) {
  const TempDirectory dir;
  WriteFile(dir / "file", "x");
  const auto below_a_file = RunDirectory::Open(dir / "file/out");
  EXPECT_THAT(std::string(below_a_file.status().message()), HasSubstr(dir / "file"));
  const auto in_proc = RunDirectory::Open("/proc/strake");
  EXPECT_EQ(in_proc.status().message(),
            "cannot create the folder /proc/strake: No such file or directory");
}

TEST(RunDirectoryTest, AnErrorLeavesTheOldCheckpoints) {
  const TempDirectory dir;
  auto run = RunDirectory::Open(dir.path());
  ASSERT_TRUE(run.ok());
  ASSERT_TRUE(Write(*run, 1, 1).ok());
  for (const int64_t step : {1, 2}) {
    const absl::Status status = run->WriteCheckpoint(step, [](const std::string& directory) {
      (void)WriteVersion(directory, 9);
      return absl::DataLossError("a reason");
    });
    EXPECT_EQ(status, absl::DataLossError("a reason"));
  }
  EXPECT_THAT(Names(dir.path()), ElementsAre(".lock", "step-1"));
  EXPECT_EQ(ReadVersion(dir / "step-1"), 1);
}

TEST(RunDirectoryTest, NoSpaceLeavesTheOldCheckpoints) {
  const TempDirectory dir;
  auto run = RunDirectory::Open(dir.path());
  ASSERT_TRUE(run.ok());
  ASSERT_TRUE(Write(*run, 1, 1).ok());
  // Limits files to 1000 bytes: the write() beyond that fails as on a full disk.
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small = {1000, before.rlim_max};
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  const absl::Status status = run->WriteCheckpoint(2, [](const std::string& directory) {
    return WriteFileDurably(directory + "/big", std::string(5000, 'x'));
  });
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, old_handler);
  EXPECT_EQ(status.message(),
            "cannot write to " + (dir / "step-2.tmp/big.tmp") + ": File too large");
  EXPECT_THAT(Names(dir.path()), ElementsAre(".lock", "step-1"));
  EXPECT_EQ(ReadVersion(dir / "step-1"), 1);
}

TEST(RunDirectoryTest, ReplacesACheckpoint) {
  const TempDirectory dir;
  auto run = RunDirectory::Open(dir.path());
  ASSERT_TRUE(run.ok());
  for (const int64_t version : {1, 2, 3}) {
    ASSERT_TRUE(Write(*run, 7, version).ok());
    EXPECT_EQ(ReadVersion(dir / "step-7"), version);
    EXPECT_THAT(Names(dir.path()), ElementsAre(".lock", "step-7"));
  }
}

TEST(RunDirectoryTest, TidiesUpAfterACrash) {
  const TempDirectory dir;
  for (const char* name : {"step-1", "step-2.tmp", "step-3", "step-3.old", "step-4.old"}) {
    fs::create_directory(dir / name);
    ASSERT_TRUE(WriteVersion(dir / name, 1).ok());
  }
  fs::create_directory(dir / "mine.tmp");
  const auto run = RunDirectory::Open(dir.path());
  ASSERT_TRUE(run.ok());
  EXPECT_THAT(Names(dir.path()), ElementsAre(".lock", "mine.tmp", "step-1", "step-3", "step-4"));
  EXPECT_EQ(ReadVersion(dir / "step-4"), 1);
}

TEST(RunDirectoryTest, ACheckpointThatIsAwayIsAnError) {
  for (const char* target : {"/away/step-9", "step-9"}) {  // to nothing, and to itself
    const TempDirectory dir;
    auto run = RunDirectory::Open(dir.path());
    ASSERT_TRUE(run.ok());
    ASSERT_TRUE(Write(*run, 1, 1).ok());
    fs::create_symlink(target, dir / "step-9");
    EXPECT_THAT(std::string(run->LatestCheckpoint().status().message()), HasSubstr(dir / "step-9"));
    EXPECT_THAT(std::string(run->Prune(1).message()), HasSubstr(dir / "step-9"));
    EXPECT_EQ(ReadVersion(dir / "step-1"), 1);
  }
}

TEST(RunDirectoryTest, StaysInTheFolderThatIsRenamedOrReplaced) {
  const TempDirectory dir;
  auto run = RunDirectory::Open(dir / "run");
  ASSERT_TRUE(run.ok());
  ASSERT_TRUE(Write(*run, 1, 1).ok());
  fs::rename(dir / "run", dir / "old");
  ASSERT_TRUE(Write(*run, 2, 2).ok());
  fs::create_directory(dir / "run");
  ASSERT_TRUE(Write(*run, 3, 3).ok());
  ASSERT_TRUE(run->Prune(2).ok());
  EXPECT_THAT(run->Checkpoints().value(), ElementsAre(2, 3));
  EXPECT_THAT(Names(dir / "old"), ElementsAre(".lock", "step-2", "step-3"));
  EXPECT_THAT(Names(dir / "run"), IsEmpty());
}

TEST(RunDirectoryTest, WritesThroughNoSymbolicLink) {
  const TempDirectory dir;
  WriteFile(dir / "mine", "mine");
  fs::create_directory(dir / "run");
  fs::create_symlink(dir / "mine", dir / "run/.lock");
  EXPECT_THAT(std::string(RunDirectory::Open(dir / "run").status().message()),
              HasSubstr(dir / "run/.lock"));
  fs::remove(dir / "run/.lock");
  fs::create_directory(dir / "folder");
  WriteFile(dir / "folder/mine", "mine");
  auto run = RunDirectory::Open(dir / "run");
  ASSERT_TRUE(run.ok());
  fs::create_symlink(dir / "folder", dir / "run/step-1.tmp");
  ASSERT_TRUE(Write(*run, 1, 1).ok());
  EXPECT_EQ(ReadFile(dir / "mine"), "mine");
  EXPECT_THAT(Names(dir / "folder"), ElementsAre("mine"));
  EXPECT_EQ(ReadVersion(dir / "run/step-1"), 1);
}

TEST(RunDirectoryTest, PrunesTheOldest) {
  const TempDirectory dir;
  auto run = RunDirectory::Open(dir.path());
  ASSERT_TRUE(run.ok());
  for (const int64_t step : {9, 10, 11, 100}) ASSERT_TRUE(Write(*run, step, step).ok());
  ASSERT_TRUE(run->Prune(0).ok());
  ASSERT_TRUE(run->Prune(4).ok());
  EXPECT_THAT(run->Checkpoints().value(), ElementsAre(9, 10, 11, 100));
  ASSERT_TRUE(run->Prune(2).ok());
  EXPECT_THAT(Names(dir.path()), ElementsAre(".lock", "step-100", "step-11"));
}

// Runs `body` in a child process, which reports rising numbers through the function it is given,
// and kills it some time after up to two reports. Returns the last reported number, or 0.
int64_t RunAndKill(std::mt19937& random,
                   const std::function<void(const std::function<void(int64_t)>&)>& body) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    body([&](int64_t number) {
      if (write(ends[1], &number, sizeof(number)) != sizeof(number)) _exit(1);
    });
    _exit(0);
  }
  close(ends[1]);
  int64_t last = 0, number;
  const auto receive = [&] { return read(ends[0], &number, sizeof(number)) == sizeof(number); };
  for (int reports = random() % 3; reports > 0 && receive(); --reports) last = number;
  usleep(random() % 30000);
  kill(child, SIGKILL);
  int status;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
  while (receive()) last = number;
  close(ends[0]);
  return last;
}

TEST(RunDirectoryTest, AKillAtAnyMomentLeavesTheLastCheckpointUsable) {
  std::mt19937 random(1);
  const TempDirectory dir;
  int64_t written = 0;
  for (int round = 0; round < 25; ++round) {
    const int64_t reported = RunAndKill(random, [&](const auto& report) {
      auto run = RunDirectory::Open(dir.path());
      if (!run.ok()) _exit(1);
      for (int64_t step = run->LatestCheckpoint()->value_or(0) + 1;; ++step) {
        // Prunes first, since the last round may have been killed before it.
        if (!run->Prune(2).ok()) _exit(1);
        if (!Write(*run, step, step).ok()) _exit(1);
        report(step);
      }
    });
    written = std::max(written, reported);
    const auto run = RunDirectory::Open(dir.path());
    ASSERT_TRUE(run.ok()) << run.status();
    const std::vector<int64_t> steps = run->Checkpoints().value();
    ASSERT_GE(steps.empty() ? 0 : steps.back(), written);
    ASSERT_LE(steps.size(), 3);
    for (const int64_t step : steps)
      ASSERT_EQ(ReadVersion(CheckpointPath(run->path(), step)), step);
    ASSERT_EQ(Names(dir.path()).size(), steps.size() + 1) << "leftovers";
  }
  EXPECT_GT(written, 5);
}

TEST(RunDirectoryTest, AKillWhileReplacingLeavesOneWholeCheckpoint) {
  std::mt19937 random(2);
  const TempDirectory dir;
  const std::string checkpoint = dir / "step-5";
  int64_t written = 0;
  for (int round = 0; round < 25; ++round) {
    const int64_t reported = RunAndKill(random, [&](const auto& report) {
      auto run = RunDirectory::Open(dir.path());
      if (!run.ok()) _exit(1);
      for (int64_t version = written + 1;; ++version) {
        if (!Write(*run, 5, version).ok()) _exit(1);
        report(version);
      }
    });
    written = std::max(written, reported);
    if (written == 0) continue;
    // Before Open() removes leftovers: a reader that takes no lock finds it too.
    ASSERT_GE(ReadVersion(checkpoint), written);
    const auto run = RunDirectory::Open(dir.path());
    ASSERT_TRUE(run.ok()) << run.status();
    written = ReadVersion(checkpoint);
    ASSERT_GT(written, 0);
  }
  EXPECT_GT(written, 5);
}

}  // namespace
}  // namespace strake
