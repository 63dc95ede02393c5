// A value that may still be in flight: the result of a pass that started a collective.
#ifndef STRAKE_CORE_BASE_PENDING_H_
#define STRAKE_CORE_BASE_PENDING_H_

#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace strake {

// Wait() returns the value once it may be read, or the error that prevented it. Between making a
// Pending and waiting for it, the caller does work that does not need the value.
template <typename T>
class [[nodiscard]] Pending {
 public:
  // A value that is already complete.
  Pending(T value) : value_(std::move(value)) {}             // NOLINT(google-explicit-constructor)
  Pending(absl::Status error) : value_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  // `wait` blocks until `value` may be read, and returns whether that succeeded. It is called once.
  Pending(T value, std::function<absl::Status()> wait)
      : value_(std::move(value)), wait_(std::move(wait)) {}

  absl::StatusOr<T> Wait() {
    if (wait_) {
      const absl::Status status = std::exchange(wait_, nullptr)();
      if (!status.ok()) value_ = status;
    }
    return value_;
  }

 private:
  absl::StatusOr<T> value_;
  std::function<absl::Status()> wait_;
};

}  // namespace strake

#endif  // STRAKE_CORE_BASE_PENDING_H_
