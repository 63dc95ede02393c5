#include "core/base/format_quantity.h"

#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace strake {
namespace {

std::string FourDigits(double value) {
  if (value < 9.995) return absl::StrFormat("%.2f", value);
  if (value < 999.95) return absl::StrFormat("%.1f", value);
  return absl::StrFormat("%.0f", value);
}

// `value` in the largest of `units` in which it is at least 1. Each unit is `base` times the one
// before.
template <size_t kCount>
std::string WithUnit(double value, double base, const char* const (&units)[kCount]) {
  if (!(value >= 0) || std::isinf(value)) return "?";
  if (std::round(value) < base) return absl::StrCat(absl::StrFormat("%.0f", value), units[0]);
  // Subtracts half of the last displayed digit: 999.95 would be displayed as 1000.0, 1023.5 as
  // 1024.
  const double limit = base - (base > 1000 ? 0.5 : 0.05);
  size_t unit = 0;
  do {
    value /= base;
    ++unit;
  } while (unit + 1 < kCount && value >= limit);
  return absl::StrCat(FourDigits(value), units[unit]);
}

}  // namespace

std::string FormatDuration(double seconds) {
  // A duration beyond a thousand years is meaningless.
  if (!(seconds >= 0 && seconds < 3.2e10)) return "?";
  if (seconds < 9.95) return absl::StrFormat("%.1fs", seconds);
  const int64_t s = std::llround(seconds);
  if (s < 60) return absl::StrFormat("%ds", s);
  if (s < 3600) return absl::StrFormat("%dm%02ds", s / 60, s % 60);
  const int64_t minutes = std::llround(seconds / 60);
  if (minutes < 24 * 60) return absl::StrFormat("%dh%02dm", minutes / 60, minutes % 60);
  const int64_t hours = std::llround(seconds / 3600);
  return absl::StrFormat("%dd%02dh", hours / 24, hours % 24);
}

std::string FormatCount(double count) { return WithUnit(count, 1000, {"", "k", "M", "B", "T"}); }

std::string Plural(int64_t count, absl::string_view noun) {
  return absl::StrCat(noun, count == 1 ? "" : "s");
}

std::string FormatBytes(double bytes) {
  return WithUnit(bytes, 1024, {" B", " KiB", " MiB", " GiB", " TiB"});
}

}  // namespace strake
