#include "data/text/bad_lines.h"

#include "absl/strings/str_cat.h"

namespace strake {

absl::Status BadLines::Error(const std::string& message) const {
  return absl::InvalidArgumentError(
      name_of_skip_.empty()
          ? message
          : absl::StrCat(message, "; to leave out what is no document, give ", name_of_skip_));
}

absl::Status BadLines::Bad(const std::string& message) {
  if (!skip_) return Error(message);
  if (num_bad_++ == 0) first_bad_ = message;
  return absl::OkStatus();
}

absl::Status BadLines::Empty(const std::string& message) {
  if (!skip_) return Error(message);
  ++num_empty_;
  return absl::OkStatus();
}

}  // namespace strake
