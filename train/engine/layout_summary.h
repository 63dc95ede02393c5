// LayoutSummary: how ranks share a model, in a line.
#ifndef STRAKE_TRAIN_ENGINE_LAYOUT_SUMMARY_H_
#define STRAKE_TRAIN_ENGINE_LAYOUT_SUMMARY_H_

#include <string>

#include "absl/strings/string_view.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine_options.h"

namespace strake {

// "tp 2 x dp 2 = 4 ranks (threads), sequence parallel, ZeRO 1, gradients reduced in bf16". `comm`,
// in parentheses, connects the ranks; it may be empty.
std::string LayoutSummary(const MeshVector& sizes, const EngineOptions& options,
                          absl::string_view comm = "");

}  // namespace strake

#endif  // STRAKE_TRAIN_ENGINE_LAYOUT_SUMMARY_H_
