// Early return for functions that return absl::Status or absl::StatusOr.
#ifndef STRAKE_CORE_BASE_STATUS_MACROS_H_
#define STRAKE_CORE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define STRAKE_RETURN_IF_ERROR(expr)                                                    \
  do {                                                                                  \
    if (absl::Status strake_status = (expr); !strake_status.ok()) return strake_status; \
  } while (false)

#define STRAKE_ASSIGN_OR_RETURN(lhs, expr) \
  STRAKE_ASSIGN_OR_RETURN_IMPL_(STRAKE_CONCAT_(strake_or_, __LINE__), lhs, expr)

#define STRAKE_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                                  \
  if (!tmp.ok()) return tmp.status();                 \
  lhs = std::move(tmp).value()

#define STRAKE_CONCAT_(a, b) STRAKE_CONCAT_IMPL_(a, b)
#define STRAKE_CONCAT_IMPL_(a, b) a##b

#endif  // STRAKE_CORE_BASE_STATUS_MACROS_H_
