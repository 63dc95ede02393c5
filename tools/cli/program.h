// Code shared by the main functions of Strake's programs.
#ifndef STRAKE_TOOLS_CLI_PROGRAM_H_
#define STRAKE_TOOLS_CLI_PROGRAM_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tools/cli/options.h"

namespace strake {

// All of a main(): PrepareProcess(), PrintVersion() where it is asked for, else the program.
// Returns the exit code: the program's, or that of its error.
int ProgramMain(int argc, char** argv, absl::Status (*program)(int argc, char** argv));
int ProgramMain(int argc, char** argv, absl::StatusOr<int> (*program)(int argc, char** argv));

// The text that parsed flags ask for instead of the program's work: help, after `about` where it is
// of all options, or a script for a shell. Nothing where they ask for none.
std::optional<std::string> TextAskedFor(const OptionSet& options, absl::string_view about = "");

// Parses the flags. Returns whether they ask for such a text, which is then printed.
absl::StatusOr<bool> ParseFlagsOrHelp(int argc, const char* const* argv, OptionSet* options);

// What main() begins with. Opens /dev/null for those of stdin, stdout and stderr that the caller
// closed: otherwise the first files that are opened would get their numbers, and printed text would
// go into them. A write beyond the limit of a file's size becomes an error of that write, and a
// mapped file that becomes shorter while it is read ends the process with a sentence that names it.
void PrepareProcess();

// An error where stdout took less than was printed: the system's where a disk is full or fails,
// else DataLoss, for example where the reader is gone.
absl::Status FlushStdout();

// Prints the error on stderr, in one line: characters in it that would move the cursor or change a
// terminal's state are shown as \xNN.
void PrintError(const absl::Status& error);

// True where one of the flags is --version, at any position.
bool HasVersionFlag(int argc, const char* const* argv);

// Prints the version and how this program was built; returns the exit code.
int PrintVersion();

// Returns 0, or 1 after printing the error on stderr. Processes that mpirun started together find
// the same error in their flags: the first one prints it, and another one only where the first has
// none.
int ExitCode(const absl::Status& status);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_PROGRAM_H_
