// The number of elements that squared_norm adds in a fixed order.
#ifndef STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_UNIT_H_
#define STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_UNIT_H_

#include <cstdint>

namespace strake {

inline constexpr int64_t kSquaredNormUnit = 64;

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_UNIT_H_
