// WorkState: how far a piece of work is, for a program to show. Libraries tell it through their
// observers and callbacks, and write nothing themselves.
#ifndef STRAKE_CORE_BASE_WORK_STATE_H_
#define STRAKE_CORE_BASE_WORK_STATE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace strake {

enum class WorkUnit : uint8_t { kShare, kBytes, kCount };

struct WorkState {
  std::string what = {};  // "reading weights"; another one is other work
  double done = 0;
  double total = 0;  // 0: not known
  WorkUnit unit = WorkUnit::kShare;
  double resumed = 0;  // of `done`: what an earlier process did, which tells nothing of the rate
};

// Is told of work on the thread that does it, at its beginning and after each part. May be null.
using OnWork = std::function<void(const WorkState&)>;

// Tells `on_work` of the work under another name.
inline OnWork RenameWork(std::string what, OnWork on_work) {
  if (on_work == nullptr) return nullptr;
  return [what = std::move(what), on_work = std::move(on_work)](WorkState work) {
    work.what = what;
    on_work(work);
  };
}

}  // namespace strake

#endif  // STRAKE_CORE_BASE_WORK_STATE_H_
