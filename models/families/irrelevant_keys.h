// Keys of any family's `config.json` that do not change the model.
#ifndef STRAKE_MODELS_FAMILIES_IRRELEVANT_KEYS_H_
#define STRAKE_MODELS_FAMILIES_IRRELEVANT_KEYS_H_

#include "absl/types/span.h"
#include "models/families/family.h"

namespace strake {

absl::Span<const IrrelevantKey> GeneralIrrelevantKeys();

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_IRRELEVANT_KEYS_H_
