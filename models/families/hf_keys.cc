#include "models/families/hf_keys.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/json.h"
#include "nlohmann/json.hpp"

namespace strake {

using Json = nlohmann::json;

namespace {

constexpr int64_t kMaxSize = int64_t{1} << 40;

const Json& EmptyObject() {
  static const auto* const empty = new Json(Json::object());
  return *empty;
}

bool IsSize(const Json& value, int64_t min) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned()) {
    const auto size = value.get<uint64_t>();
    return size <= uint64_t{kMaxSize} && static_cast<int64_t>(size) >= min;
  }
  return value.get<int64_t>() >= min && value.get<int64_t>() <= kMaxSize;
}

bool IsNumber(const Json& value, double min, double max) {
  return value.is_number() && value.get<double>() >= min && value.get<double>() <= max;
}

std::string Quoted(const std::vector<std::string>& words) {
  return absl::StrCat("\"", absl::StrJoin(words, "\", \""), "\"");
}

}  // namespace

HfKeys::HfKeys(const Json& object, std::string source, std::vector<std::string>* notices)
    : object_(object), source_(std::move(source)), notices_(notices) {}

HfKeys::HfKeys(HfKeys* parent, const char* key, const Json& object)
    : object_(object), source_(parent->source_), notices_(nullptr), parent_(parent), key_(key) {}

HfKeys HfKeys::Object(const char* key) {
  SetUse(key, Use::kRead);
  const auto it = object_.find(key);
  const bool good = Require(it != object_.end() && it->is_object(), key, "it must be an object");
  return HfKeys(this, key, good ? *it : EmptyObject());
}

void HfKeys::SetUse(const std::string& key, Use use) {
  uses_.emplace(key, use);
  if (parent_ != nullptr) parent_->SetUse(absl::StrCat(key_, ".", key), use);
}

bool HfKeys::Has(const char* key) {
  SetUse(key, Use::kRead);
  const auto it = object_.find(key);
  return it != object_.end() && !it->is_null();
}

bool HfKeys::IsNull(const char* key) {
  SetUse(key, Use::kRead);
  const auto it = object_.find(key);
  return it != object_.end() && it->is_null();
}

const Json& HfKeys::At(const char* key) {
  SetUse(key, Use::kRead);
  return object_.at(key);
}

void HfKeys::Fail(absl::string_view message) {
  if (parent_ != nullptr) {
    parent_->Fail(absl::StrCat("\"", key_, "\": ", message));
  } else if (status_.ok()) {
    status_ = absl::InvalidArgumentError(absl::StrCat(source_, ": ", message));
  }
}

bool HfKeys::Require(bool good, const char* key, absl::string_view must_be) {
  if (good) return true;
  const auto it = object_.find(key);
  Fail(absl::StrCat("\"", key, "\" is ", it == object_.end() ? "missing" : QuoteJson(*it), "; ",
                    must_be));
  return false;
}

int64_t HfKeys::Size(const char* key, std::optional<int64_t> fallback, int64_t min) {
  if (!Has(key)) {
    if (!fallback.has_value()) Fail(absl::StrCat("\"", key, "\" is missing; sizes are required"));
    return fallback.value_or(1);
  }
  const bool good = Require(IsSize(At(key), min), key,
                            absl::StrCat("it must be an integer from ", min, " to ", kMaxSize));
  return good ? At(key).get<int64_t>() : std::max<int64_t>(min, 1);
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

int64_t HfKeys::SizeOrNull(const char* key, int64_t fallback) {
  return IsNull(key) ? 0 : Size(key, fallback);
}

double HfKeys::Number(const char* key, double fallback, double min, double max) {
  if (!Has(key)) return fallback;
  const bool good = Require(IsNumber(At(key), min, max), key,
                            absl::StrCat("it must be a number from ", min, " to ", max));
  return good ? At(key).get<double>() : fallback;
}

double HfKeys::PositiveOrNull(const char* key, double fallback) {
  return IsNull(key) ? 0 : Number(key, fallback, 1e-6, 1e6);
}

std::vector<double> HfKeys::Numbers(const char* key, double min, double max) {
  if (!Has(key)) return {};
  const Json& list = At(key);
  const bool good =
      Require(list.is_array() && std::all_of(list.begin(), list.end(),
                                             [&](const Json& v) { return IsNumber(v, min, max); }),
              key, absl::StrCat("it must be a list of numbers from ", min, " to ", max));
  return good ? list.get<std::vector<double>>() : std::vector<double>();
}

bool HfKeys::Bool(const char* key, bool fallback) {
  SetUse(key, Use::kRead);
  const auto it = object_.find(key);
  if (it == object_.end()) return fallback;
  const bool good = Require(it->is_boolean(), key, "it must be true or false");
  return good ? it->get<bool>() : fallback;
}

std::string HfKeys::Word(const char* key, const std::vector<std::string>& supported) {
  if (!Has(key)) return supported.front();
  for (const std::string& word : supported) {
    if (At(key) == word) return word;
  }
  Require(false, key, absl::StrCat("supported: ", Quoted(supported)));
  return supported.front();
}

std::vector<std::string> HfKeys::Words(const char* key, const std::vector<std::string>& supported) {
  if (!Has(key)) return {};
  const Json& list = At(key);
  const auto known = [&](const Json& value) {
    return std::any_of(supported.begin(), supported.end(),
                       [&](const std::string& word) { return value == word; });
  };
  const bool good = Require(list.is_array() && std::all_of(list.begin(), list.end(), known), key,
                            absl::StrCat("it must be a list of ", Quoted(supported)));
  return good ? list.get<std::vector<std::string>>() : std::vector<std::string>();
}

void HfKeys::MustBe(const char* key, bool required) {
  SetUse(key, Use::kChecked);
  if (Bool(key, required) != required) {
    Fail(absl::StrCat("\"", key, "\": ", required ? "false" : "true", " is not supported"));
  }
}

void HfKeys::MustBeAbsent(const char* key, absl::string_view reason) {
  SetUse(key, Use::kChecked);
  if (Has(key)) Require(false, key, reason);
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

std::vector<std::string> HfKeys::UnusedKeys() const {
  std::vector<std::string> unused;
  AddUnused(object_, "", &unused);
  return unused;
}

void HfKeys::AddUnused(const Json& object, const std::string& prefix,
                       std::vector<std::string>* unused) const {
  for (const auto& [key, value] : object.items()) {
    const std::string path = prefix + key;
    if (value.is_null()) continue;
    if (uses_.count(path) == 0) {
      unused->push_back(path);
      continue;
    }
    // An object that was read key by key.
    const auto next = uses_.upper_bound(path + ".");
    if (value.is_object() && next != uses_.end() && absl::StartsWith(next->first, path + ".")) {
      AddUnused(value, path + ".", unused);
    }
  }
}

}  // namespace strake
