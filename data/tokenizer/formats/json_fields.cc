#include "data/tokenizer/formats/json_fields.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "nlohmann/json.hpp"

namespace strake {

using nlohmann::json;

std::string QuoteText(absl::string_view text) { return QuoteJson(json(std::string(text))); }

JsonFields::JsonFields(const json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) Fail(absl::StrCat("is ", QuoteJson(object), ", not an object"));
}

const json* JsonFields::Find(const std::string& key) {
  known_.push_back(key);
  if (!object_.is_object()) return nullptr;
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

const json* JsonFields::Required(const std::string& key) {
  const json* value = Find(key);
  if (value == nullptr) Fail(absl::StrCat("has no \"", key, "\""));
  return value;
}

std::string JsonFields::String(const std::string& key) {
  const json* value = Required(key);
  if (value == nullptr) return "";
  if (value->is_string()) return value->get_ref<const std::string&>();
  FailType(key, "a string", *value);
  return "";
}

std::string JsonFields::String(const std::string& key, absl::string_view absent) {
  return Find(key) == nullptr ? std::string(absent) : String(key);
}

bool JsonFields::Bool(const std::string& key, std::optional<bool> absent) {
  const json* value = absent ? Find(key) : Required(key);
  if (value == nullptr) return absent.value_or(false);
  if (!value->is_boolean()) FailType(key, "true or false", *value);
  return value->is_boolean() && value->get<bool>();
}

int64_t JsonFields::Int(const std::string& key, std::optional<int64_t> absent) {
  const json* value = absent ? Find(key) : Required(key);
  if (value == nullptr) return absent.value_or(0);
  // A number above the largest int64_t would come out negative.
  if (value->is_number_integer() &&
      (!value->is_number_unsigned() || value->get<uint64_t>() <= uint64_t{INT64_MAX})) {
    return value->get<int64_t>();
  }
  FailType(key, "an integer", *value);
  return 0;
}

void JsonFields::Ignore(const std::vector<std::string>& keys) {
  known_.insert(known_.end(), keys.begin(), keys.end());
}

void JsonFields::Fail(const std::string& reason) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat(where_, " ", reason));
}

void JsonFields::FailType(const std::string& key, absl::string_view expected, const json& value) {
  Fail(absl::StrCat("has \"", key, "\": ", QuoteJson(value), ", which is not ", expected));
}

absl::Status JsonFields::Finish() {
  if (!status_.ok()) return status_;
  for (const auto& [key, value] : object_.items()) {
    if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
      Fail(absl::StrCat("has ", QuoteText(key), ", which is not known"));
    }
  }
  return status_;
}

}  // namespace strake
