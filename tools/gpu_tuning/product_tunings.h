// The tables of this folder, which say which of cuBLASLt's algorithms computes a product.
//
// docs/cuda.md, "Tuned products", has their format. `benchmark --tune` writes them. They are built
// into the programs: which algorithm computes a product depends on the program, the GPU, the
// library and the product alone.
#ifndef STRAKE_TOOLS_GPU_TUNING_PRODUCT_TUNINGS_H_
#define STRAKE_TOOLS_GPU_TUNING_PRODUCT_TUNINGS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/cuda/product_tuning.h"

namespace strake {

// The tables that the program was built with, one per GPU.
absl::Span<const ProductTuning> ProductTunings();

// A table's text, with the products in order of their names.
std::string ProductTuningText(const ProductTuning& tuning);

// Returns InvalidArgument, beginning with `source`, for a text that is no such table.
absl::StatusOr<ProductTuning> ParseProductTuning(absl::string_view text, absl::string_view source);

}  // namespace strake

#endif  // STRAKE_TOOLS_GPU_TUNING_PRODUCT_TUNINGS_H_
