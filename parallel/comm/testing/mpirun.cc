#include "parallel/comm/testing/mpirun.h"

#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace strake::testing {
namespace {

bool InPath(absl::string_view command) {
  const char* const path = std::getenv("PATH");
  if (path == nullptr) return false;
  for (const absl::string_view folder : absl::StrSplit(absl::string_view(path), ':')) {
    if (access(absl::StrCat(folder, "/", command).c_str(), X_OK) == 0) return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> MpirunCommand(int num_processes) {
  if (!InPath("mpirun")) return {};
  std::vector<std::string> command = {
      "mpirun", "--allow-run-as-root",      "--oversubscribe", "--bind-to", "none",
      "-np",    absl::StrCat(num_processes)};
  // Open MPI names its files by the host and mpirun's PID, which are the same for tests in
  // sandboxes.
  if (const char* const folder = std::getenv("TEST_TMPDIR"); folder != nullptr) {
    for (const char* const place : {"orte_tmpdir_base", "btl_vader_backing_directory"}) {
      command.insert(command.end(), {"--mca", place, folder});
    }
  }
  return command;
}

void Exec(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
}

}  // namespace strake::testing
