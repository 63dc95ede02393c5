// Writes to file descriptors, and errors of system calls.
#ifndef STRAKE_CORE_BASE_WRITE_ALL_H_
#define STRAKE_CORE_BASE_WRITE_ALL_H_

#include <cerrno>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace strake {

// "cannot WHAT PATH: REASON", for a system call that just failed.
absl::Status SystemError(const char* what, const std::string& path, int error = errno);

// Whether a full or failing disk may be the reason, of whatever call: ENOSPC, EDQUOT or EIO.
bool IsErrorOfADisk(const absl::Status& status);

// Writes `data`, and removes from it what is written: all of it, unless there is an error.
absl::Status WriteFrom(int fd, absl::string_view* data, const std::string& path);

// Writes all of `data`, however many calls that takes. `path` is only for the error.
absl::Status WriteAll(int fd, absl::string_view data, const std::string& path);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_WRITE_ALL_H_
