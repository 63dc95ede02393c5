// Runs Strake's programs as a user does: in a folder, with flags, reading their output.
#ifndef STRAKE_TESTS_RUN_PROGRAM_H_
#define STRAKE_TESTS_RUN_PROGRAM_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/file_descriptor.h"

namespace strake::testing {

struct ProgramResult {
  int exit_code = 0;     // 128 + the signal's number where a signal ended it
  std::string out, err;  // without lines that tell how far work is, which depend on the time
};

struct ProgramOptions {
  std::string directory;        // the user's directory, as `bazel run` passes it
  int64_t max_file_bytes = -1;  // writing beyond fails with EFBIG, as on a full disk; -1: no limit
  double timeout_seconds = 50;  // then the program is killed and the test aborts
  std::vector<std::string> launcher = {};  // its launcher, found in PATH: "mpirun", "-np", "4"
};

// A program that runs beside the test. Its output goes to files, not to a terminal.
class Program {
 public:
  // `name` is a path in the repository, "tools/train", that the test lists in `data`.
  Program(const std::string& name, const std::vector<std::string>& flags, ProgramOptions options);
  // Kills the program if it is still running.
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void Send(int signal);
  // Waits until stdout contains `text`. False where the program ended without it.
  bool WaitForOutput(const std::string& text);
  // Waits until it has used that much CPU time. False where it ended before.
  bool WaitForCpuTime(double seconds);
  ProgramResult Wait();

 private:
  bool HasEnded();
  void CheckTime() const;

  const std::string name_;
  const ProgramOptions options_;
  const FileDescriptor out_, err_;
  const double deadline_;
  pid_t process_ = -1;
  int status_ = 0;
  bool ended_ = false;
};

ProgramResult RunProgram(const std::string& name, const std::vector<std::string>& flags,
                         ProgramOptions options = {});

}  // namespace strake::testing

#endif  // STRAKE_TESTS_RUN_PROGRAM_H_
