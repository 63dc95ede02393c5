#include "train/engine/layout_summary.h"

#include "absl/strings/str_cat.h"
#include "core/base/format_quantity.h"

namespace strake {

std::string LayoutSummary(const MeshVector& sizes, const EngineOptions& options,
                          absl::string_view comm) {
  const int num_ranks = NumRanks(sizes);
  return absl::StrCat(
      "tp ", sizes.tp, sizes.cp > 1 ? absl::StrCat(" x cp ", sizes.cp) : "",
      sizes.pp > 1 ? absl::StrCat(" x pp ", sizes.pp) : "", " x dp ", sizes.dp, " = ", num_ranks,
      " ", Plural(num_ranks, "rank"), comm.empty() ? "" : absl::StrCat(" (", comm, ")"),
      options.sequence_parallel ? ", sequence parallel" : "",
      options.gradients.zero > 0 ? absl::StrCat(", ZeRO ", options.gradients.zero) : "",
      options.gradients.reduce_in_bf16 ? ", gradients reduced in bf16" : "");
}

}  // namespace strake
