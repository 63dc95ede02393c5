#include "models/families/hf_keys.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/json.h"
#include "nlohmann/json.hpp"

namespace strake {

using Json = nlohmann::json;

HfKeys::HfKeys(const Json& object, std::string source, std::vector<std::string>* notices)
    : object_(object), source_(std::move(source)), notices_(notices) {}

bool HfKeys::Has(const char* key) const {
  const auto it = object_.find(key);
  return it != object_.end() && !it->is_null();
}

const Json& HfKeys::At(const char* key) const { return object_.at(key); }

void HfKeys::Fail(absl::string_view message) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat(source_, ": ", message));
}

int64_t HfKeys::Size(const char* key, std::optional<int64_t> fallback) {
  constexpr int64_t kMax = int64_t{1} << 40;
  if (!Has(key)) {
    if (!fallback.has_value()) Fail(absl::StrCat("\"", key, "\" is missing; sizes are required"));
    return fallback.value_or(1);
  }
  const Json& value = At(key);
  const bool integer = value.is_number_integer() &&
                       !(value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{kMax});
  if (!integer || value.get<int64_t>() < 1 || value.get<int64_t>() > kMax) {
    Fail(absl::StrCat("\"", key, "\" is ", QuoteJson(value), "; it must be an integer from 1 to ",
                      kMax));
    return 1;
  }
  return value.get<int64_t>();
}

int64_t HfKeys::SizeOfTwoNames(const char* key, const char* other) {
  if (!Has(other)) return Size(key);
  const int64_t size = Size(other);
  if (Size(key, size) != size) {
    Fail(absl::StrCat("\"", key, "\" is ", QuoteJson(At(key)), " but \"", other, "\" is ", size,
                      "; they are two names of one size: remove one"));
  }
  return size;
}

double HfKeys::Number(const char* key, double fallback, double min, double max) {
  if (!Has(key)) return fallback;
  const Json& value = At(key);
  if (!value.is_number() || !(value.get<double>() >= min && value.get<double>() <= max)) {
    Fail(absl::StrCat("\"", key, "\" is ", QuoteJson(value), "; it must be a number from ", min,
                      " to ", max));
    return fallback;
  }
  return value.get<double>();
}

bool HfKeys::Bool(const char* key, bool fallback) {
  const auto it = object_.find(key);
  if (it == object_.end()) return fallback;
  if (!it->is_boolean()) {
    Fail(absl::StrCat("\"", key, "\" is ", QuoteJson(*it), "; it must be true or false"));
    return fallback;
  }
  return it->get<bool>();
}

std::string HfKeys::Word(const char* key, const std::vector<std::string>& supported) {
  if (!Has(key)) return supported.front();
  for (const std::string& word : supported) {
    if (At(key) == word) return word;
  }
  Fail(absl::StrCat("\"", key, "\" is ", QuoteJson(At(key)), "; supported: \"",
                    absl::StrJoin(supported, "\", \""), "\""));
  return supported.front();
}

void HfKeys::MustBe(const char* key, bool required) {
  if (Bool(key, required) != required) {
    Fail(absl::StrCat("\"", key, "\": ", required ? "false" : "true", " is not supported"));
  }
}

void HfKeys::MustBeAbsent(const char* key, absl::string_view reason) {
  if (Has(key)) Fail(absl::StrCat("\"", key, "\" is ", QuoteJson(At(key)), "; ", reason));
}

void HfKeys::Note(absl::string_view message) {
  if (notices_ != nullptr) notices_->push_back(absl::StrCat(source_, ": ", message));
}

void HfKeys::NoteDropout(const std::vector<const char*>& keys, double fallback) {
  std::vector<std::string> found;
  for (const char* key : keys) {
    const double value = Number(key, fallback, 0, 1);
    if (value != 0) found.push_back(absl::StrCat(key, "=", value));
  }
  if (!found.empty()) {
    Note(absl::StrCat("dropout is not applied (", absl::StrJoin(found, ", "), ")"));
  }
}

}  // namespace strake
