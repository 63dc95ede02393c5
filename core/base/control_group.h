// The limits that control groups, such as a container's, put on this process.
//
// Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
#ifndef STRAKE_CORE_BASE_CONTROL_GROUP_H_
#define STRAKE_CORE_BASE_CONTROL_GROUP_H_

#include <cstddef>
#include <optional>
#include <string>

namespace strake {

// Each is the tightest of the process's group and of those above it; nothing where none limits it.
struct ControlGroupLimits {
  // Bytes that may still be used. Cached contents of files that were not read lately count as free,
  // because the system drops them first.
  std::optional<size_t> free_memory_bytes = {};
  // CPU time per time.
  std::optional<double> num_cores = {};
};

// Reads those of either version. What cannot be read limits nothing. `root` is for tests: a folder
// that stands for "/".
ControlGroupLimits ReadControlGroupLimits(const std::string& root = "");

}  // namespace strake

#endif  // STRAKE_CORE_BASE_CONTROL_GROUP_H_
