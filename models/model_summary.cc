#include "models/model_summary.h"

#include "absl/strings/str_cat.h"
#include "core/base/format_quantity.h"

namespace strake {

std::string ModelSummary(const ModelConfig& model) {
  return absl::StrCat(FormatCount(static_cast<double>(NumParameters(model))), " parameters, ",
                      model.num_layers, " layers of ", model.hidden_size, ", ", model.num_heads,
                      " heads, vocabulary ", model.vocab_size);
}

}  // namespace strake
