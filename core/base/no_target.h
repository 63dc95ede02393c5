// kNoTarget: what stands for a target where there is none.
#ifndef STRAKE_CORE_BASE_NO_TARGET_H_
#define STRAKE_CORE_BASE_NO_TARGET_H_

#include <cstdint>

namespace strake {

// The target of a token whose prediction is in no loss.
inline constexpr int32_t kNoTarget = -1;

}  // namespace strake

#endif  // STRAKE_CORE_BASE_NO_TARGET_H_
