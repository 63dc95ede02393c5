// What the main functions of Strake's programs share.
#ifndef STRAKE_TOOLS_CLI_PROGRAM_H_
#define STRAKE_TOOLS_CLI_PROGRAM_H_

#include "absl/status/status.h"

namespace strake {

// Makes /dev/null of those of stdin, stdout and stderr that the caller closed. Otherwise the first
// files that are opened would take their numbers, and what is printed would be written into them.
void OpenStandardStreams();

// DataLoss where stdout took less than was printed, as on a full disk.
absl::Status FlushStdout();

// On stderr, as one line, also where a name in it holds line ends.
void PrintError(const absl::Status& error);

// True where one of the flags is --version, wherever it stands.
bool HasVersionFlag(int argc, const char* const* argv);

// Prints the version and how this program was built; the exit code.
int PrintVersion();

// 0, or 1 with the error on stderr. Processes that mpirun started together meet with the same error
// in their flags: the first of them prints it, and another one only where the first has none.
int ExitCode(const absl::Status& status);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_PROGRAM_H_
