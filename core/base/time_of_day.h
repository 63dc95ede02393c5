// The time of day, for logs.
#ifndef STRAKE_CORE_BASE_TIME_OF_DAY_H_
#define STRAKE_CORE_BASE_TIME_OF_DAY_H_

#include <chrono>

namespace strake {

// Seconds since 1970, by the system's clock, which may be set back.
inline double TimeOfDay() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace strake

#endif  // STRAKE_CORE_BASE_TIME_OF_DAY_H_
