// What the main functions of Strake's programs share.
#ifndef STRAKE_TOOLS_PROGRAM_H_
#define STRAKE_TOOLS_PROGRAM_H_

#include <fcntl.h>
#include <unistd.h>

#include <iostream>
#include <string>

#include "absl/status/status.h"
#include "core/base/status_macros.h"

namespace strake {

// Makes /dev/null of those of stdin, stdout and stderr that the caller closed. Otherwise the first
// files that are opened would take their numbers, and what is printed would be written into them.
inline void OpenStandardStreams() {
  int fd = 0;
  while (fd >= 0 && fd <= STDERR_FILENO) fd = open("/dev/null", O_RDWR);
  if (fd > STDERR_FILENO) close(fd);
}

// DataLoss where stdout took less than was printed, as on a full disk.
inline absl::Status FlushStdout() {
  if (std::cout.flush()) return absl::OkStatus();
  return absl::DataLossError("cannot write to stdout; is the disk full, or was it closed?");
}

// 0, or 1 with the error on stderr: one line, also where a name in it holds line ends.
inline int ExitCode(const absl::Status& status) {
  std::cout.flush();
  if (status.ok()) return 0;
  std::string line(status.message());
  for (char& c : line) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  std::cerr << "error: " << line << "\n";
  return 1;
}

}  // namespace strake

#endif  // STRAKE_TOOLS_PROGRAM_H_
