#include "tools/cli/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <system_error>
#include <type_traits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"
#include "tools/cli/foreign_names.h"
#include "tools/cli/home_path.h"
#include "tools/cli/nearest_name.h"

namespace strake {
namespace {

using nlohmann::json;

constexpr char kHelp[] = "help";
constexpr char kVersion[] = "version";  // HasVersionFlag() knows it
constexpr char kCompletion[] = "print_completion";

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

absl::StatusOr<json> OptionSet::Option::InHome(json value) const {
  if (kind_ == Kind::kValue || !value.is_string()) return value;
  const auto& text = value.get_ref<const std::string&>();
  STRAKE_ASSIGN_OR_RETURN(const std::string path,
                          kind_ == Kind::kPath ? ExpandHome(text) : ExpandHomeInList(text));
  return json(path);
}

void OptionSet::Option::Store(const json& value, Source source) {
  if (source < source_) return;
  source_ = source;
  std::visit([&](auto* variable) { value.get_to(*variable); }, variable_);
}

OptionSet::Option& OptionSet::AddOption(std::string name, Option::Variable variable,
                                        std::string help) {
  CHECK(!name.empty() && Find(name) == nullptr && name != kHelp && name != kVersion &&
        name != kCompletion)
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

const OptionSet::Option& OptionSet::Get(absl::string_view name) const {
  const Option* const option = Find(name);
  CHECK(option != nullptr) << "[options] no option " << name;
  return *option;
}

void OptionSet::Paths(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const_cast<Option&>(Get(name)).kind_ = Option::Kind::kPath;
  }
}

void OptionSet::PathLists(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const_cast<Option&>(Get(name)).kind_ = Option::Kind::kPathList;
  }
}

void OptionSet::Suggest(absl::string_view name, std::vector<std::string> words) {
  const_cast<Option&>(Get(name)).suggestions_ = std::move(words);
}

void OptionSet::ShowDefault(absl::string_view name, std::string text) {
  const_cast<Option&>(Get(name)).default_ = std::move(text);
}

absl::Status OptionSet::Unknown(absl::string_view name, absl::string_view prefix,
                                bool in_json) const {
  std::vector<std::string> names;
  for (const Option& option : options_) {
    if (!in_json || !option.flag_only_) names.push_back(option.name_);
  }
  std::string nearest = NearestName(name, names);
  // --nolr, where lr is a number.
  if (nearest.empty() && absl::StartsWith(name, "no")) nearest = NearestName(name.substr(2), names);
  const std::string answer = AnswerToForeignName(name, [&](absl::string_view option) {
    return std::find(names.begin(), names.end(), option) != names.end();
  });
  std::string message = absl::StrCat(prefix, name, in_json ? "\"" : "");
  if (!answer.empty() && (nearest.empty() || NameDistance(name, nearest) > 0)) {
    absl::StrAppend(&message, "; ", answer);
  } else if (!nearest.empty()) {
    absl::StrAppend(&message, "; the nearest is ", in_json ? "\"" : "--", nearest,
                    in_json ? "\"" : "");
  } else if (!in_json) {
    absl::StrAppend(&message, "; --help lists the flags of ", program_);
  }
  return absl::InvalidArgumentError(message);
}

absl::Status OptionSet::NotAFlag(absl::string_view argument) const {
  const std::string answer = argument.size() != 2 || argument[0] != '-'
                                 ? ""
                                 : AnswerToForeignName(argument, [&](absl::string_view option) {
                                     return Find(option) != nullptr;
                                   });
  return absl::InvalidArgumentError(
      absl::StrCat("argument \"", argument, "\" is not a flag; ",
                   answer.empty() ? "flags are --name=value" : answer));
}

absl::StatusOr<bool> OptionSet::ParseCommonFlag(absl::string_view name,
                                                const std::optional<std::string>& text) {
  if (name == kHelp) {
    help_requested_ = true;
    help_word_ = text.value_or("");
    return true;
  }
  if (name != kCompletion) return false;
  completion_shell_ = text.value_or("");
  if (completion_shell_ == "bash" || completion_shell_ == "zsh") return true;
  return absl::InvalidArgumentError(
      absl::StrCat("--", kCompletion, "=", completion_shell_, ": must be one of bash, zsh"));
}

absl::Status OptionSet::StoreFlag(const std::string& text, Option* option) {
  const auto value = option->InHome(
      std::visit([&]<typename T>(T*) { return TextValue<T>(text); }, option->variable_));
  if (!value.ok()) {
    return absl::Status(value.status().code(), absl::StrCat("--", option->name_, "=", text, ": ",
                                                            value.status().message()));
  }
  if (!option->Allows(*value)) {
    return absl::InvalidArgumentError(absl::StrCat("--", option->name_, "=", text, ": must be ",
                                                   option->Allowed(), option->InvalidByte(text)));
  }
  option->Store(*value, Option::Source::kFlag);
  return absl::OkStatus();
}

absl::Status OptionSet::ParseFlag(absl::string_view flag, const char* next, bool* used_next) {
  const size_t equals = flag.find('=');
  const absl::string_view name = flag.substr(0, equals);
  std::optional<std::string> text;
  if (equals != absl::string_view::npos) text = std::string(flag.substr(equals + 1));
  STRAKE_ASSIGN_OR_RETURN(const bool is_common, ParseCommonFlag(name, text));
  if (is_common) return absl::OkStatus();
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
  return StoreFlag(*text, option);
}

absl::Status OptionSet::ParseFlags(int argc, const char* const* argv) {
  for (int i = 1; i < argc; ++i) {
    absl::string_view flag = argv[i];
    if (words_ != nullptr && !absl::StartsWith(flag, "-")) {
      words_->emplace_back(flag);
      continue;
    }
    if (flag == "-h") flag = "--help";
    if (!absl::ConsumePrefix(&flag, "--") || flag.empty()) return NotAFlag(argv[i]);
    bool used_next = false;
    STRAKE_RETURN_IF_ERROR(ParseFlag(flag, i + 1 < argc ? argv[i + 1] : nullptr, &used_next));
    if (used_next) ++i;
  }
  const bool has_help = std::any_of(options_.begin(), options_.end(),
                                    [&](const Option& option) { return IsInHelp(option); });
  if (help_word_.empty() || has_help) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("--help=", help_word_, ": no option of ", program_,
                                          " has this in its name or meaning; --help lists all"));
}

absl::Status OptionSet::ParseJson(absl::string_view text, absl::string_view source) {
  STRAKE_ASSIGN_OR_RETURN(const json object, strake::ParseJson(text, source));
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": not a JSON object"));
  }
  for (const auto& [name, given] : object.items()) {
    Option* option = Find(name);
    if (option == nullptr || option->flag_only_) {
      return Unknown(name, absl::StrCat(source, ": unknown key \""), true);
    }
    const auto value = option->InHome(given);
    if (!value.ok()) {
      return absl::Status(value.status().code(),
                          absl::StrCat(source, ": \"", name, "\" is ", QuoteJson(given), ", but ",
                                       value.status().message()));
    }
    if (!option->Allows(*value)) {
      return absl::InvalidArgumentError(absl::StrCat(
          source, ": \"", name, "\" is ", QuoteJson(given), ", but must be ", option->Allowed()));
    }
    option->Store(*value, Option::Source::kJson);
  }
  return absl::OkStatus();
}

bool OptionSet::IsInHelp(const Option& option) const {
  const std::string word = absl::AsciiStrToLower(help_word_);
  return absl::StrContains(absl::AsciiStrToLower(option.name_), word) ||
         absl::StrContains(absl::AsciiStrToLower(option.help_), word);
}

std::string OptionSet::Help() const {
  std::string text;
  if (help_word_.empty()) {
    text = absl::StrCat(
        "Usage: ", program_, " [--name=value ...]\n       ", program_,
        " -h | --help | --help=word | --version | --print_completion=bash|zsh\n\n",
        "--name value is the same as --name=value; --name and --noname set what is true or false.\n"
        "A ~ at the beginning of a path is the home directory.\n");
  }
  std::optional<absl::string_view> group;
  for (const Option& option : options_) {
    if (!IsInHelp(option)) continue;
    if (option.group_ != group) {
      absl::StrAppend(&text, text.empty() ? "" : "\n", option.group_,
                      option.group_.empty() ? "" : "\n");
    }
    group = option.group_;
    absl::StrAppend(&text, "  --", option.name_, "=", option.default_, "\n      ", option.help_);
    const std::string allowed = option.Allowed();
    absl::StrAppend(&text, allowed == "text" ? "" : absl::StrCat(" (", allowed, ")"), "\n");
  }
  return text;
}

std::vector<OptionSet::Info> OptionSet::Infos() const {
  std::vector<Info> infos;
  for (const Option& option : options_) {
    infos.push_back({.name = option.name_,
                     .help = option.help_,
                     .is_bool = std::holds_alternative<bool*>(option.variable_),
                     .is_path = option.kind_ != Option::Kind::kValue,
                     .words = option.words_.empty() ? option.suggestions_ : option.words_});
  }
  return infos;
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
  return Get(name).source_ != Option::Source::kDefault;
}

}  // namespace strake
