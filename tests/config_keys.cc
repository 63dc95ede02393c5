// Prints what each family does with the keys of `config.json`, for check_config_keys.py: lines of
// the family, a key, and "read", "checked" (one value is supported) or "irrelevant" with the
// reason.
//
//     config_keys CONFIG.json ...
//
// Which keys are read depends on the values of others, so that a family may have many files.
#include <algorithm>
#include <iostream>
#include <map>
#include <string>

#include "core/base/json.h"
#include "core/base/read_file.h"
#include "models/families/families.h"
#include "models/families/hf_keys.h"
#include "models/families/irrelevant_keys.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

void PrintIrrelevant(const std::string& family, absl::Span<const IrrelevantKey> keys) {
  for (const IrrelevantKey& key : keys) {
    std::cout << family << "\t" << key.key << "\tirrelevant\t" << key.reason << "\n";
  }
}

int Main(int argc, char** argv) {
  std::map<std::string, std::map<std::string, HfKeys::Use>> uses;
  for (int i = 1; i < argc; ++i) {
    const auto text = ReadFile(argv[i]);
    const auto json = text.ok() ? ParseJson(*text, argv[i]) : text.status();
    if (!json.ok()) {
      std::cerr << "error: " << json.status().message() << "\n";
      return 1;
    }
    HfKeys keys(*json, argv[i], /*notices=*/nullptr);
    // Of models that are refused too, keys are known.
    (void)ReadHfConfig(keys);
    uses[json->value("model_type", "")].insert(keys.uses().begin(), keys.uses().end());
  }
  for (const ModelFamily* family : ModelFamilies()) {
    const std::string name = family->model_type;
    for (const auto& [key, use] : uses[name]) {
      std::cout << name << "\t" << key << "\t" << (use == HfKeys::Use::kRead ? "read" : "checked")
                << "\n";
    }
    PrintIrrelevant(name, family->irrelevant_keys);
    PrintIrrelevant(name, GeneralIrrelevantKeys());
  }
  return 0;
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::Main(argc, argv); }
