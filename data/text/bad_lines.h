// BadLines: lines that are no document, which are errors, or are left out and counted.
#ifndef STRAKE_DATA_TEXT_BAD_LINES_H_
#define STRAKE_DATA_TEXT_BAD_LINES_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"

namespace strake {

class BadLines {
 public:
  // With `skip` they are counted. `name_of_skip` is what a program calls that option, for errors:
  // "" where it has none.
  BadLines(bool skip, std::string name_of_skip)
      : skip_(skip), name_of_skip_(std::move(name_of_skip)) {}

  // A line that is none, and a document without a byte. InvalidArgument, with the message, unless
  // they are counted.
  absl::Status Bad(const std::string& message);
  absl::Status Empty(const std::string& message);

  int64_t num_bad() const { return num_bad_; }
  int64_t num_empty() const { return num_empty_; }
  // What the error of the first bad line would be; empty without one.
  const std::string& first_bad() const { return first_bad_; }

 private:
  absl::Status Error(const std::string& message) const;

  bool skip_;
  std::string name_of_skip_;
  int64_t num_bad_ = 0, num_empty_ = 0;
  std::string first_bad_;
};

}  // namespace strake

#endif  // STRAKE_DATA_TEXT_BAD_LINES_H_
