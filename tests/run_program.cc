#include "tests/run_program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "core/base/monotonic_seconds.h"
#include "glog/logging.h"
#include "tools/cli/user_paths.h"

namespace strake::testing {
namespace {

constexpr int kPollMicroseconds = 500;

int MemoryFile(const char* name) {
  const int fd = memfd_create(name, MFD_CLOEXEC);
  PCHECK(fd >= 0) << name;
  return fd;
}

std::string Contents(const FileDescriptor& file) {
  std::string text;
  char buffer[1 << 14];
  ssize_t n;
  while ((n = pread(file.get(), buffer, sizeof(buffer), text.size())) > 0) text.append(buffer, n);
  PCHECK(n == 0);
  return text;
}

// Programs tell of work that takes more than two seconds, which on a busy machine is any:
// "reading weights: 45 %, 3s left", "comparing the data: 3s so far".
bool IsProgress(absl::string_view line) {
  const bool ends_so = absl::EndsWith(line, " left") || absl::EndsWith(line, " so far");
  return ends_so && absl::StrContains(line, ": ") && !absl::StartsWith(line, "step ");
}

std::string WithoutProgress(absl::string_view text) {
  std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  lines.erase(std::remove_if(lines.begin(), lines.end(), IsProgress), lines.end());
  return absl::StrJoin(lines, "\n");
}

// Runs between fork and exec: only plain system calls.
void BecomeProgram(char* const* argv, const ProgramOptions& options, int out, int err) {
  // If the test dies, the program must not continue.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) _exit(125);
  if (dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0) _exit(125);
  if (options.max_file_bytes >= 0) {
    const rlim_t limit = options.max_file_bytes;
    const struct rlimit limits = {limit, limit};
    // With the signal ignored a write fails instead, as on a full disk.
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || setrlimit(RLIMIT_FSIZE, &limits) != 0) _exit(125);
  }
  execvp(argv[0], argv);
  _exit(126);
}

}  // namespace

Program::Program(const std::string& name, const std::vector<std::string>& flags,
                 ProgramOptions options)
    : name_(name),
      options_(std::move(options)),
      out_(MemoryFile("out")),
      err_(MemoryFile("err")),
      deadline_(MonotonicSeconds() + options_.timeout_seconds) {
  const auto path = RunfilePath(name);
  CHECK(path.ok()) << path.status();
  std::vector<char*> argv;
  for (const std::string& word : options_.launcher) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(const_cast<char*>(path->c_str()));
  for (const std::string& flag : flags) argv.push_back(const_cast<char*>(flag.c_str()));
  argv.push_back(nullptr);
  if (options_.directory.empty()) {
    unsetenv("BUILD_WORKING_DIRECTORY");
  } else {
    setenv("BUILD_WORKING_DIRECTORY", options_.directory.c_str(), 1);
  }
  process_ = fork();
  PCHECK(process_ >= 0) << name;
  if (process_ == 0) BecomeProgram(argv.data(), options_, out_.get(), err_.get());
}

Program::~Program() {
  if (HasEnded()) return;
  kill(process_, SIGKILL);
  waitpid(process_, &status_, 0);
}

void Program::Send(int signal) {
  if (!HasEnded()) kill(process_, signal);
}

bool Program::HasEnded() {
  if (!ended_) ended_ = waitpid(process_, &status_, WNOHANG) == process_;
  return ended_;
}

void Program::CheckTime() const {
  if (MonotonicSeconds() < deadline_) return;
  kill(process_, SIGKILL);
  LOG(FATAL) << name_ << " still runs after " << options_.timeout_seconds << " seconds; it printed "
             << Contents(out_) << Contents(err_);
}

bool Program::WaitForOutput(const std::string& text) {
  while (true) {
    const bool ended = HasEnded();  // checked first, so that its last output is seen
    if (Contents(out_).find(text) != std::string::npos) return true;
    if (ended) return false;
    CheckTime();
    usleep(kPollMicroseconds);
  }
}

bool Program::WaitForCpuTime(double seconds) {
  while (!HasEnded()) {
    clockid_t clock;
    timespec used = {};
    if (clock_getcpuclockid(process_, &clock) == 0) clock_gettime(clock, &used);
    if (used.tv_sec + 1e-9 * used.tv_nsec >= seconds) return true;
    CheckTime();
    usleep(kPollMicroseconds);
  }
  return false;
}

ProgramResult Program::Wait() {
  while (!HasEnded()) {
    CheckTime();
    usleep(kPollMicroseconds);
  }
  const int code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  return {code, WithoutProgress(Contents(out_)), WithoutProgress(Contents(err_))};
}

ProgramResult RunProgram(const std::string& name, const std::vector<std::string>& flags,
                         ProgramOptions options) {
  return Program(name, flags, std::move(options)).Wait();
}

}  // namespace strake::testing
