#include "core/base/dynamic_library.h"

#include <dlfcn.h>
#include <link.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace strake {

absl::StatusOr<DynamicLibrary> DynamicLibrary::Load(absl::string_view what,
                                                    absl::Span<const std::string> names) {
  std::string reasons;
  for (const std::string& name : names) {
    // Resolves every symbol now, so that a library that lacks one is an error here, not an abort
    // within a run.
    if (void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) {
      return DynamicLibrary(std::string(what), handle);
    }
    absl::StrAppend(&reasons, reasons.empty() ? "" : "; ", dlerror());
  }
  return absl::NotFoundError(absl::StrCat(what, " cannot be loaded (", reasons,
                                          "); install it, or name its folder in LD_LIBRARY_PATH"));
}

absl::StatusOr<void*> DynamicLibrary::Address(const std::string& name) const {
  void* address = dlsym(handle_, name.c_str());
  if (address != nullptr) return address;
  return absl::NotFoundError(
      absl::StrCat(what_, " has no function ", name, " in ", path(), "; install another version"));
}

std::string DynamicLibrary::path() const {
  const link_map* map = nullptr;
  return dlinfo(handle_, RTLD_DI_LINKMAP, &map) == 0 ? map->l_name : what_;
}

}  // namespace strake
