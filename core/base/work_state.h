// WorkState: how far a piece of work is, for a program to show. Libraries tell it through their
// observers and callbacks, and write nothing themselves.
#ifndef STRAKE_CORE_BASE_WORK_STATE_H_
#define STRAKE_CORE_BASE_WORK_STATE_H_

#include <cstdint>
#include <string>

namespace strake {

enum class WorkUnit : uint8_t { kShare, kBytes, kCount };

struct WorkState {
  std::string what = {};  // "reading weights"; another one is other work
  double done = 0;
  double total = 0;  // 0: not known
  WorkUnit unit = WorkUnit::kShare;
  double resumed = 0;  // of `done`: what an earlier process did, which tells nothing of the rate
};

}  // namespace strake

#endif  // STRAKE_CORE_BASE_WORK_STATE_H_
