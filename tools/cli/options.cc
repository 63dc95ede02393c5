#include "tools/cli/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <optional>
#include <system_error>
#include <type_traits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;

constexpr char kHelp[] = "help";
constexpr char kVersion[] = "version";  // HasVersionFlag() knows it

// Levenshtein's distance, row by row.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

// Parses all of `text` as a number, if it is one and fits. Unlike strtod and similar functions,
// from_chars accepts no blanks and ignores the locale.
template <typename T>
std::optional<T> ParseNumber(absl::string_view text) {
  T value;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

// Parses a flag's text for a variable of type T; it remains text where that fails.
template <typename T>
json TextValue(absl::string_view text) {
  if constexpr (std::is_same_v<T, bool>) {
    if (text == "true" || text == "1") return true;
    if (text == "false" || text == "0") return false;
  } else if constexpr (!std::is_same_v<T, std::string>) {
    if (const auto number = ParseNumber<T>(text)) return *number;
  }
  return std::string(text);
}

bool IsInt64(const json& value) {
  // The parser uses the unsigned type for numbers that are not negative, and floating point for
  // numbers of more than 64 bits.
  if (value.is_number_unsigned()) {
    return value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  }
  return value.is_number_integer();
}

}  // namespace

std::string Range::ToString() const {
  if (min == -kInfinity && max == kInfinity) return "";
  if (max == kInfinity) return absl::StrCat(open_min ? " > " : " >= ", min);
  if (min == -kInfinity) return absl::StrCat(open_max ? " < " : " <= ", max);
  return absl::StrCat(" in ", open_min ? "(" : "[", min, ", ", max, open_max ? ")" : "]");
}

json OptionSet::Option::Value() const {
  return std::visit([](const auto* variable) { return json(*variable); }, variable_);
}

std::string OptionSet::Option::Allowed() const {
  if (std::holds_alternative<bool*>(variable_)) return "true or false";
  if (std::holds_alternative<int64_t*>(variable_)) {
    return absl::StrCat("an integer", range_.ToString());
  }
  if (std::holds_alternative<double*>(variable_)) {
    return absl::StrCat("a finite number", range_.ToString());
  }
  return words_.empty() ? "text" : absl::StrCat("one of ", absl::StrJoin(words_, ", "));
}

bool OptionSet::Option::Allows(const json& value) const {
  if (std::holds_alternative<bool*>(variable_)) return value.is_boolean();
  if (std::holds_alternative<int64_t*>(variable_)) {
    return IsInt64(value) && range_.Contains(value.get<int64_t>());
  }
  if (std::holds_alternative<double*>(variable_)) {
    return value.is_number() && std::isfinite(value.get<double>()) &&
           range_.Contains(value.get<double>());
  }
  if (!value.is_string()) return false;
  const auto& text = value.get_ref<const std::string&>();
  return InvalidByte(text).empty() &&
         (words_.empty() || std::find(words_.begin(), words_.end(), text) != words_.end());
}

std::string OptionSet::Option::InvalidByte(absl::string_view text) const {
  const size_t num_valid = ValidUtf8Prefix(text);
  if (any_bytes_ || num_valid == text.size()) return "";
  return absl::StrCat(", and byte ", num_valid + 1, " is not UTF-8");
}

void OptionSet::Option::Store(const json& value, Source source) {
  if (source < source_) return;
  source_ = source;
  std::visit([&](auto* variable) { value.get_to(*variable); }, variable_);
}

OptionSet::Option& OptionSet::AddOption(std::string name, Option::Variable variable,
                                        std::string help) {
  CHECK(!name.empty() && Find(name) == nullptr && name != kHelp && name != kVersion)
      << "[options] the name \"" << name << "\" is empty or taken";
  Option& option = options_.emplace_back();
  option.name_ = std::move(name);
  option.help_ = std::move(help);
  option.group_ = group_;
  option.variable_ = variable;
  const nlohmann::json value = option.Value();
  option.default_ = value.is_string() ? value.get<std::string>() : JsonText(value);
  return option;
}

OptionSet::Option& OptionSet::Add(std::string name, bool* variable, std::string help) {
  return AddOption(std::move(name), variable, std::move(help));
}

OptionSet::Option& OptionSet::Add(std::string name, int64_t* variable, std::string help,
                                  Range range) {
  Option& option = AddOption(std::move(name), variable, std::move(help));
  option.range_ = range;
  return option;
}

OptionSet::Option& OptionSet::Add(std::string name, double* variable, std::string help,
                                  Range range) {
  Option& option = AddOption(std::move(name), variable, std::move(help));
  option.range_ = range;
  return option;
}

OptionSet::Option& OptionSet::Add(std::string name, std::string* variable, std::string help,
                                  std::vector<std::string> words) {
  Option& option = AddOption(std::move(name), variable, std::move(help));
  option.words_ = std::move(words);
  return option;
}

const OptionSet::Option* OptionSet::Find(absl::string_view name) const {
  for (const Option& option : options_) {
    if (option.name_ == name) return &option;
  }
  return nullptr;
}

OptionSet::Option* OptionSet::Find(absl::string_view name) {
  return const_cast<Option*>(std::as_const(*this).Find(name));
}

absl::Status OptionSet::Unknown(absl::string_view name, absl::string_view prefix,
                                bool in_json) const {
  std::string message = absl::StrCat(prefix, name, in_json ? "\"" : "");
  const Option* nearest = nullptr;
  size_t least = 0;
  for (const Option& option : options_) {
    if (in_json && option.flag_only_) continue;
    const size_t distance = EditDistance(name, option.name_);
    if (nearest == nullptr || distance < least) {
      nearest = &option;
      least = distance;
    }
  }
  if (nearest != nullptr) {
    absl::StrAppend(&message, "; the nearest is ", in_json ? "\"" : "--", nearest->name_,
                    in_json ? "\"" : "");
  }
  return absl::InvalidArgumentError(message);
}

absl::Status OptionSet::ParseFlag(absl::string_view flag, const char* next, bool* used_next) {
  const size_t equals = flag.find('=');
  const absl::string_view name = flag.substr(0, equals);
  std::optional<absl::string_view> text;
  if (equals != absl::string_view::npos) text = flag.substr(equals + 1);
  if (name == kHelp && !text) {
    help_requested_ = true;
    return absl::OkStatus();
  }
  Option* option = Find(name);
  if (option == nullptr) {
    Option* negated = absl::StartsWith(name, "no") ? Find(name.substr(2)) : nullptr;
    if (negated == nullptr || !std::holds_alternative<bool*>(negated->variable_) || text) {
      return Unknown(name, "unknown flag --", false);
    }
    negated->Store(false, Option::Source::kFlag);
    return absl::OkStatus();
  }
  if (!text && std::holds_alternative<bool*>(option->variable_)) text = "true";
  if (!text && next != nullptr && !absl::StartsWith(next, "--")) {
    text = next;
    *used_next = true;
  }
  if (!text) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", name, " lacks its value: must be ", option->Allowed()));
  }
  const json value =
      std::visit([&]<typename T>(T*) { return TextValue<T>(*text); }, option->variable_);
  if (!option->Allows(value)) {
    return absl::InvalidArgumentError(absl::StrCat("--", name, "=", *text, ": must be ",
                                                   option->Allowed(), option->InvalidByte(*text)));
  }
  option->Store(value, Option::Source::kFlag);
  return absl::OkStatus();
}

absl::Status OptionSet::ParseFlags(int argc, const char* const* argv) {
  for (int i = 1; i < argc; ++i) {
    absl::string_view flag = argv[i];
    if (!absl::ConsumePrefix(&flag, "--") || flag.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("argument \"", argv[i], "\" is not a flag; flags are --name=value"));
    }
    bool used_next = false;
    STRAKE_RETURN_IF_ERROR(ParseFlag(flag, i + 1 < argc ? argv[i + 1] : nullptr, &used_next));
    if (used_next) ++i;
  }
  return absl::OkStatus();
}

absl::Status OptionSet::ParseJson(absl::string_view text, absl::string_view source) {
  STRAKE_ASSIGN_OR_RETURN(const json object, strake::ParseJson(text, source));
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": not a JSON object"));
  }
  for (const auto& [name, value] : object.items()) {
    Option* option = Find(name);
    if (option == nullptr || option->flag_only_) {
      return Unknown(name, absl::StrCat(source, ": unknown key \""), true);
    }
    if (!option->Allows(value)) {
      return absl::InvalidArgumentError(absl::StrCat(
          source, ": \"", name, "\" is ", QuoteJson(value), ", but must be ", option->Allowed()));
    }
    option->Store(value, Option::Source::kJson);
  }
  return absl::OkStatus();
}

std::string OptionSet::Help() const {
  std::string text =
      absl::StrCat("Usage: ", program_, " [--name=value ...]\n       ", program_, " --version\n");
  absl::string_view group;
  for (const Option& option : options_) {
    if (option.group_ != group) absl::StrAppend(&text, "\n", option.group_, "\n");
    group = option.group_;
    absl::StrAppend(&text, "  --", option.name_, "=", option.default_, "\n      ", option.help_);
    const std::string allowed = option.Allowed();
    absl::StrAppend(&text, allowed == "text" ? "" : absl::StrCat(" (", allowed, ")"), "\n");
  }
  return text;
}

nlohmann::ordered_json OptionSet::ToJson() const {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (const Option& option : options_) {
    if (!option.flag_only_) object[option.name_] = option.Value();
  }
  return object;
}

std::vector<std::string> OptionSet::NamesSet() const {
  std::vector<std::string> names;
  for (const Option& option : options_) {
    const bool is_set = option.source_ != Option::Source::kDefault;
    if (is_set && !option.flag_only_) names.push_back(option.name_);
  }
  return names;
}

bool OptionSet::IsSet(absl::string_view name) const {
  const Option* option = Find(name);
  CHECK(option != nullptr) << "[options] no option " << name;
  return option->source_ != Option::Source::kDefault;
}

}  // namespace strake
