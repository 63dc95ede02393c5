#include "core/base/name_error.h"

#include "absl/strings/str_cat.h"

namespace strake {

absl::Status NameError(absl::string_view name, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(name, ": ", status.message()));
}

}  // namespace strake
