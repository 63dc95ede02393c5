// The texts of this folder's tables, from a source that the build makes of them.
#ifndef STRAKE_TOOLS_GPU_TUNING_BUILT_IN_TABLES_H_
#define STRAKE_TOOLS_GPU_TUNING_BUILT_IN_TABLES_H_

#include "absl/types/span.h"

namespace strake {

absl::Span<const char* const> BuiltInTables();

}  // namespace strake

#endif  // STRAKE_TOOLS_GPU_TUNING_BUILT_IN_TABLES_H_
