// The models that layout tests train: features without sizes.
#ifndef STRAKE_TESTS_LAYOUT_MODEL_H_
#define STRAKE_TESTS_LAYOUT_MODEL_H_

#include <string>
#include <vector>

#include "models/model_config.h"

namespace strake::testing {

struct LayoutModel {
  std::string name;            // of the family, in config.json
  ModelConfig features;        // of two layers and heads of 4
  bool grouped_heads = false;  // key/value heads may be fewer than query heads
};

// Each family with the features of its files: windows are shorter than a rank's tokens, and layers
// that may differ do.
const std::vector<LayoutModel>& LayoutModels();
const LayoutModel& FindLayoutModel(const std::string& name);

}  // namespace strake::testing

#endif  // STRAKE_TESTS_LAYOUT_MODEL_H_
