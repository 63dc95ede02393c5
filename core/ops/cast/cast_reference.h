// Reference implementation of conversions. See core/ops/cast/cast.h.
#ifndef STRAKE_CORE_OPS_CAST_CAST_REFERENCE_H_
#define STRAKE_CORE_OPS_CAST_CAST_REFERENCE_H_

#include <cstdint>

namespace strake::reference {

template <typename From, typename To>
void Cast(const From* x, int64_t size, To* y) {
  for (int64_t i = 0; i < size; ++i) y[i] = static_cast<To>(x[i]);
}

template <typename From, typename To>
void CastAdd(const From* x, int64_t size, To* y) {
  for (int64_t i = 0; i < size; ++i) y[i] += static_cast<To>(x[i]);
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_CAST_CAST_REFERENCE_H_
