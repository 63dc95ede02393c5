// Durations, counts and sizes in human-readable form.
#ifndef STRAKE_CORE_BASE_FORMAT_QUANTITY_H_
#define STRAKE_CORE_BASE_FORMAT_QUANTITY_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace strake {

// "3.2s", "42s", "3m12s", "2h05m", "3d04h"; "?" for a negative or non-finite number.
std::string FormatDuration(double seconds);

// "950", "12.3k", "124.4M", "8.03B": at most four digits.
std::string FormatCount(double count);

// "file" for one, "files" for any other number.
std::string Plural(int64_t count, absl::string_view noun);

// "512 B", "1.50 KiB", "2.60 GiB": at most four digits.
std::string FormatBytes(double bytes);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_FORMAT_QUANTITY_H_
