#include "tools/cli/program.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iostream>
#include <optional>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/file_mapping.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "core/base/version.h"
#include "core/base/write_all.h"
#include "parallel/comm/launch_environment.h"
#include "tools/cli/completion.h"

namespace strake {
namespace {

// mpirun ends all processes when one of them fails: the others give the first one time to print. A
// process that still runs then has an error of its own, for example a file that its machine lacks.
constexpr std::chrono::seconds kTimeToPrint(5);

bool IsFirstProcess() {
  const std::optional<LaunchEnvironment> launch = DetectLaunchEnvironment();
  return !launch.has_value() || launch->rank == 0;
}

void WriteToStderr(const char* text) {
  const ssize_t written = write(STDERR_FILENO, text, strlen(text));
  (void)written;
}

void OnBusError(int number, siginfo_t* info, void*) {
  const char* const path = PathOfMapping(info->si_addr);
  if (path == nullptr) {
    // The default action, which SA_RESETHAND has restored, after the return.
    raise(number);
    return;
  }
  WriteToStderr("error: ");
  WriteToStderr(path);
  WriteToStderr(": became shorter, or its disk failed, while it was read\n");
  _exit(1);
}

}  // namespace

int ProgramMain(int argc, char** argv, absl::StatusOr<int> (*program)(int argc, char** argv)) {
  PrepareProcess();
  if (HasVersionFlag(argc, argv)) return PrintVersion();
  const absl::StatusOr<int> exit_code = program(argc, argv);
  return exit_code.ok() ? *exit_code : ExitCode(exit_code.status());
}

int ProgramMain(int argc, char** argv, absl::Status (*program)(int argc, char** argv)) {
  PrepareProcess();
  if (HasVersionFlag(argc, argv)) return PrintVersion();
  return ExitCode(program(argc, argv));
}

std::optional<std::string> TextAskedFor(const OptionSet& options, absl::string_view about) {
  if (options.help_requested()) {
    return absl::StrCat(options.help_word().empty() ? about : "", options.Help());
  }
  if (options.completion_shell().empty()) return std::nullopt;
  return CompletionScript(options, options.completion_shell());
}

absl::StatusOr<bool> ParseFlagsOrHelp(int argc, const char* const* argv, OptionSet* options) {
  STRAKE_RETURN_IF_ERROR(options->ParseFlags(argc, argv));
  const std::optional<std::string> text = TextAskedFor(*options);
  if (!text.has_value()) return false;
  std::cout << *text;
  STRAKE_RETURN_IF_ERROR(FlushStdout());
  return true;
}

void PrepareProcess() {
  signal(SIGXFSZ, SIG_IGN);
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_RESETHAND;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
  int fd = 0;
  while (fd >= 0 && fd <= STDERR_FILENO) fd = open("/dev/null", O_RDWR);
  if (fd > STDERR_FILENO) close(fd);
}

absl::Status FlushStdout() {
  if (std::cout.flush()) return absl::OkStatus();
  // A write before this may be the one that failed. Its reason stays until another call fails.
  const absl::Status error = SystemError("write to", "stdout");
  if (IsErrorOfADisk(error)) return error;
  return absl::DataLossError("cannot write to stdout; is the disk full, or was it closed?");
}

void PrintError(const absl::Status& error) {
  std::cout.flush();
  std::cerr << "error: " + Printable(error.message()) + "\n" << std::flush;
}

bool HasVersionFlag(int argc, const char* const* argv) {
  return std::count(argv + std::min(argc, 1), argv + argc, absl::string_view("--version")) > 0;
}

int PrintVersion() {
  std::cout << "strake " << Version() << " (" << BuildConfiguration() << ")\n";
  return ExitCode(FlushStdout());
}

int ExitCode(const absl::Status& status) {
  std::cout.flush();
  if (status.ok()) return 0;
  if (!IsFirstProcess()) std::this_thread::sleep_for(kTimeToPrint);
  PrintError(status);
  return 1;
}

}  // namespace strake
