// A library for LD_PRELOAD that makes system calls fail, as a bad disk does.
//
//   FAULT_UNDER   what counts: calls whose file's path contains this text
//   FAULT_LOG     a file that gets a line "NAME PATH" for each call that counts
//   FAULT_CALL    the first call that fails, counted from 0; none without it
//   FAULT_TIMES   how many fail from there on
//   FAULT_ERRNO   with this error
// Headers define some of these functions themselves where it is set.
#undef _FORTIFY_SOURCE

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

struct Plan {
  const char* under = std::getenv("FAULT_UNDER");
  int log = -1;
  long call = -1, times = 0;
  int error = EIO;

  Plan() {
    if (const char* text = std::getenv("FAULT_CALL")) call = std::atol(text);
    if (const char* text = std::getenv("FAULT_TIMES")) times = std::atol(text);
    if (const char* text = std::getenv("FAULT_ERRNO")) error = std::atoi(text);
    if (const char* path = std::getenv("FAULT_LOG")) {
      log = static_cast<int>(
          syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
    }
  }
};

// Returns whether the call is to fail. It makes system calls of its own directly.
bool Fails(const char* name, const char* path) {
  static const Plan plan;
  static std::atomic<long> num_calls{0};
  if (plan.under == nullptr || path == nullptr || std::strstr(path, plan.under) == nullptr) {
    return false;
  }
  if (plan.log >= 0) {
    char line[8300];
    const int length = std::snprintf(line, sizeof(line), "%s %s\n", name, path);
    (void)syscall(SYS_write, plan.log, line, length);
  }
  const long call = num_calls++;
  if (plan.call < 0 || call < plan.call || call - plan.call >= plan.times) return false;
  errno = plan.error;
  return true;
}

thread_local char path_buffer[8192];

// Writes what a link says to `out`; null where there is none.
const char* ReadLink(const char* link, char* out, size_t size) {
  const long length = syscall(SYS_readlinkat, AT_FDCWD, link, out, size - 1);
  if (length < 0) return nullptr;
  out[length] = '\0';
  return out;
}

// The whole path of a name relative to a folder's descriptor, or of the descriptor's own file.
const char* PathAt(int fd, const char* name) {
  constexpr char kDescriptors[] = "/proc/self/fd/";
  char folder[4096], link[64];
  if (name != nullptr && name[0] == '/') {
    if (std::strncmp(name, kDescriptors, std::strlen(kDescriptors)) != 0) return name;
    // "/proc/self/fd/7/step-2", or without a rest.
    char* rest = nullptr;
    fd = static_cast<int>(std::strtol(name + std::strlen(kDescriptors), &rest, 10));
    name = *rest == '/' ? rest + 1 : nullptr;
  }
  if (fd == AT_FDCWD) {
    if (syscall(SYS_getcwd, folder, sizeof(folder)) < 0) return nullptr;
  } else {
    std::snprintf(link, sizeof(link), "%s%d", kDescriptors, fd);
    if (ReadLink(link, folder, sizeof(folder)) == nullptr) return nullptr;
  }
  if (name == nullptr) {
    std::snprintf(path_buffer, sizeof(path_buffer), "%s", folder);
  } else {
    std::snprintf(path_buffer, sizeof(path_buffer), "%s/%s", folder, name);
  }
  return path_buffer;
}

const char* Whole(const char* path) { return PathAt(AT_FDCWD, path); }

template <typename Function>
Function* Next(Function*, const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

#define STRAKE_NEXT(name) static auto* const next = Next(&name, #name)

#define STRAKE_FAULT(result, name, parameters, path, arguments) \
  extern "C" result name parameters {                           \
    STRAKE_NEXT(name);                                          \
    if (Fails(#name, path)) return -1;                          \
    return next arguments;                                      \
  }

extern "C" int open(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
  va_end(list);
  STRAKE_NEXT(open);
  return Fails("open", Whole(path)) ? -1 : next(path, flags, mode);
}

extern "C" int openat(int fd, const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
  va_end(list);
  STRAKE_NEXT(openat);
  return Fails("openat", PathAt(fd, path)) ? -1 : next(fd, path, flags, mode);
}

STRAKE_FAULT(int, mkdir, (const char* path, mode_t mode), Whole(path), (path, mode))
STRAKE_FAULT(int, rename, (const char* from, const char* to), Whole(to), (from, to))
STRAKE_FAULT(int, renameat2,
             (int from_fd, const char* from, int to_fd, const char* to, unsigned int flags),
             PathAt(to_fd, to), (from_fd, from, to_fd, to, flags))
STRAKE_FAULT(int, unlink, (const char* path), Whole(path), (path))
STRAKE_FAULT(int, unlinkat, (int fd, const char* path, int flags), PathAt(fd, path),
             (fd, path, flags))
STRAKE_FAULT(int, stat, (const char* path, struct stat* info), Whole(path), (path, info))
STRAKE_FAULT(int, lstat, (const char* path, struct stat* info), Whole(path), (path, info))
STRAKE_FAULT(int, fstat, (int fd, struct stat* info), PathAt(fd, nullptr), (fd, info))
STRAKE_FAULT(ssize_t, read, (int fd, void* data, size_t size), PathAt(fd, nullptr),
             (fd, data, size))
STRAKE_FAULT(ssize_t, write, (int fd, const void* data, size_t size), PathAt(fd, nullptr),
             (fd, data, size))
STRAKE_FAULT(off_t, lseek, (int fd, off_t offset, int whence), PathAt(fd, nullptr),
             (fd, offset, whence))
STRAKE_FAULT(int, fsync, (int fd), PathAt(fd, nullptr), (fd))
STRAKE_FAULT(int, ftruncate, (int fd, off_t size), PathAt(fd, nullptr), (fd, size))
STRAKE_FAULT(int, flock, (int fd, int operation), PathAt(fd, nullptr), (fd, operation))
