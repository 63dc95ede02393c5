#include "tools/gpu_tuning/product_tunings.h"

#include <cstdint>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"
#include "tools/gpu_tuning/built_in_tables.h"

namespace strake {
namespace {

constexpr int kMaxAlgorithms = 8;  // of CublasLt
constexpr char kUnfused[] = "unfused";

absl::Status Invalid(absl::string_view source, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(source, ": ", what));
}

}  // namespace

absl::Span<const ProductTuning> ProductTunings() {
  static const auto* const tunings = [] {
    auto* const parsed = new std::vector<ProductTuning>;
    for (const absl::string_view table : BuiltInTables()) {
      absl::StatusOr<ProductTuning> tuning = ParseProductTuning(table, "a table built in");
      CHECK(tuning.ok()) << tuning.status();
      parsed->push_back(*std::move(tuning));
    }
    return parsed;
  }();
  return *tunings;
}

std::string ProductTuningText(const ProductTuning& tuning) {
  nlohmann::ordered_json products = nlohmann::ordered_json::object();
  for (const auto& [product, algorithm] :
       std::map<std::string, int>(tuning.algorithms.begin(), tuning.algorithms.end())) {
    products[product] = algorithm == ProductTuning::kUnfused ? nlohmann::ordered_json(kUnfused)
                                                             : nlohmann::ordered_json(algorithm);
  }
  const nlohmann::ordered_json table = {
      {"gpu", tuning.gpu}, {"cublaslt", tuning.cublaslt}, {"products", products}};
  return absl::StrCat(JsonText(table, /*indent=*/2), "\n");
}

absl::StatusOr<ProductTuning> ParseProductTuning(absl::string_view text, absl::string_view source) {
  STRAKE_ASSIGN_OR_RETURN(const nlohmann::json table, ParseJson(text, source));
  if (!table.is_object() || table.size() != 3 || !table.contains("gpu") ||
      !table.contains("cublaslt") || !table.contains("products")) {
    return Invalid(source, R"(must be an object of "gpu", "cublaslt" and "products")");
  }
  const nlohmann::json &gpu = table["gpu"], &version = table["cublaslt"];
  if (!gpu.is_string()) return Invalid(source, R"("gpu" must be a GPU's name)");
  if (!version.is_number_unsigned()) return Invalid(source, R"("cublaslt" must be a version)");
  if (!table["products"].is_object()) return Invalid(source, R"("products" must be an object)");
  ProductTuning tuning = {
      .gpu = gpu.get<std::string>(), .cublaslt = version.get<int64_t>(), .algorithms = {}};
  for (const auto& [product, algorithm] : table["products"].items()) {
    if (algorithm == kUnfused) {
      tuning.algorithms[product] = ProductTuning::kUnfused;
      continue;
    }
    if (!algorithm.is_number_unsigned() || algorithm.get<uint64_t>() >= kMaxAlgorithms) {
      return Invalid(source,
                     absl::StrCat("\"", product, "\" must be \"", kUnfused, "\" or a number below ",
                                  kMaxAlgorithms, ", not ", QuoteJson(algorithm)));
    }
    tuning.algorithms[product] = algorithm.get<int>();
  }
  return tuning;
}

}  // namespace strake
