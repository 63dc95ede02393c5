// NameError: an error with what it is about before it, for callers that know more than who fails.
#ifndef STRAKE_CORE_BASE_NAME_ERROR_H_
#define STRAKE_CORE_BASE_NAME_ERROR_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

// "--data: a.txt: is empty" of "--data" and the error "a.txt: is empty". OK stays OK.
absl::Status NameError(absl::string_view name, const absl::Status& status);
template <typename T>
absl::StatusOr<T> NameError(absl::string_view name, absl::StatusOr<T> value) {
  if (value.ok()) return value;
  return NameError(name, value.status());
}

}  // namespace strake

#endif  // STRAKE_CORE_BASE_NAME_ERROR_H_
