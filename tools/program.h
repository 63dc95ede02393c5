// What the main functions of Strake's programs share.
#ifndef STRAKE_TOOLS_PROGRAM_H_
#define STRAKE_TOOLS_PROGRAM_H_

#include <iostream>
#include <string>

#include "absl/status/status.h"
#include "core/base/status_macros.h"

namespace strake {

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
