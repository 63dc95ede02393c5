// What the main functions of Strake's programs share.
#ifndef STRAKE_TOOLS_PROGRAM_H_
#define STRAKE_TOOLS_PROGRAM_H_

#include <iostream>

#include "absl/status/status.h"
#include "core/base/status_macros.h"

namespace strake {

// 0, or 1 with the error's one line on stderr.
inline int ExitCode(const absl::Status& status) {
  std::cout.flush();
  if (status.ok()) return 0;
  std::cerr << "error: " << status.message() << "\n";
  return 1;
}

}  // namespace strake

#endif  // STRAKE_TOOLS_PROGRAM_H_
