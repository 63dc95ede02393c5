// A clock for measuring intervals.
#ifndef STRAKE_CORE_BASE_MONOTONIC_SECONDS_H_
#define STRAKE_CORE_BASE_MONOTONIC_SECONDS_H_

#include <chrono>

namespace strake {

// Seconds on a clock that never goes back.
inline double MonotonicSeconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace strake

#endif  // STRAKE_CORE_BASE_MONOTONIC_SECONDS_H_
