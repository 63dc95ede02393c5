// Libraries that are loaded on first use, so that a program also runs where they are missing.
#ifndef STRAKE_CORE_BASE_DYNAMIC_LIBRARY_H_
#define STRAKE_CORE_BASE_DYNAMIC_LIBRARY_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace strake {

// A handle that is cheap to copy. The library stays loaded until the process ends, because such
// libraries have threads and exit handlers of their own.
class DynamicLibrary {
 public:
  // Loads the first of `names` (file names, or paths with a slash) that the loader can load.
  // Returns NotFound, with `what` (for example "NCCL") and the loader's reason for each name, if
  // there is none.
  static absl::StatusOr<DynamicLibrary> Load(absl::string_view what,
                                             absl::Span<const std::string> names);

  // Returns a pointer to a function: `Function<decltype(ncclSend)>("ncclSend")`. Returns NotFound
  // if the library, being of another version, has no such function. The caller vouches for the
  // type.
  template <typename F>
  absl::StatusOr<F*> Function(const std::string& name) const {
    const absl::StatusOr<void*> address = Address(name);
    if (!address.ok()) return address.status();
    return reinterpret_cast<F*>(*address);
  }

  // The handle of dlopen(), for code that calls dlsym() itself.
  void* handle() const { return handle_; }
  // The path that the library was loaded from.
  std::string path() const;

 private:
  DynamicLibrary(std::string what, void* handle) : what_(std::move(what)), handle_(handle) {}
  absl::StatusOr<void*> Address(const std::string& name) const;

  std::string what_;
  void* handle_;
};

}  // namespace strake

#endif  // STRAKE_CORE_BASE_DYNAMIC_LIBRARY_H_
