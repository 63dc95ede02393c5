#include "train/evaluation/choice_lines.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;

constexpr char kForm[] = R"({"context": "...", "choices": ["...", "..."], "answer": 0})";

// Errors of one line.
class Line {
 public:
  Line(absl::string_view source, int64_t number)
      : place_(absl::StrCat(source, ", line ", number)) {}

  absl::StatusOr<json> Parse(absl::string_view text) const {
    STRAKE_ASSIGN_OR_RETURN(json object, ParseJsonLine(text, place_));
    if (!object.is_object()) return Bad("is ", QuoteJson(object), ", not an object ", kForm);
    return object;
  }

  template <typename... Args>
  absl::Status Bad(const Args&... args) const {
    return absl::InvalidArgumentError(absl::StrCat(place_, ": ", args...));
  }

  // A member, which must be there.
  absl::StatusOr<json> Member(const json& object, const char* name) const {
    if (object.contains(name)) return object[name];
    return Bad("has no member \"", name, "\"; a question is ", kForm);
  }

 private:
  const std::string place_;
};

absl::StatusOr<std::vector<std::string>> Choices(const Line& line, const json& value) {
  const bool texts = value.is_array() && !value.empty() &&
                     std::all_of(value.begin(), value.end(),
                                 [](const json& choice) { return choice.is_string(); });
  if (texts) return value.get<std::vector<std::string>>();
  return line.Bad("\"choices\" is ", QuoteJson(value), ", not a list of one or more texts");
}

absl::StatusOr<int64_t> Answer(const Line& line, const json& value,
                               const std::vector<std::string>& choices) {
  if (value.is_string()) {
    const auto found = std::find(choices.begin(), choices.end(), value.get<std::string>());
    if (found != choices.end()) return found - choices.begin();
    return line.Bad("\"answer\" is ", QuoteJson(value), ", which is none of the choices");
  }
  if (value.is_number_unsigned() && value.get<uint64_t>() < choices.size()) {
    return value.get<int64_t>();
  }
  return line.Bad("\"answer\" is ", QuoteJson(value), ", and the ", choices.size(),
                  " choices are numbered from 0 to ", choices.size() - 1);
}

absl::StatusOr<ChoiceQuestion> ParseQuestion(absl::string_view text, absl::string_view source,
                                             int64_t number) {
  const Line line(source, number);
  STRAKE_ASSIGN_OR_RETURN(const json object, line.Parse(text));
  STRAKE_ASSIGN_OR_RETURN(const json context, line.Member(object, "context"));
  if (!context.is_string()) {
    return line.Bad("\"context\" is ", QuoteJson(context), ", not a text");
  }
  ChoiceQuestion question = {.context = context.get<std::string>(), .line = number};
  STRAKE_ASSIGN_OR_RETURN(const json choices, line.Member(object, "choices"));
  STRAKE_ASSIGN_OR_RETURN(question.choices, Choices(line, choices));
  STRAKE_ASSIGN_OR_RETURN(const json answer, line.Member(object, "answer"));
  STRAKE_ASSIGN_OR_RETURN(question.answer, Answer(line, answer, question.choices));
  return question;
}

bool IsBlank(absl::string_view line) { return absl::StripAsciiWhitespace(line).empty(); }

}  // namespace

absl::StatusOr<std::vector<ChoiceQuestion>> ParseChoiceLines(absl::string_view text,
                                                             absl::string_view source) {
  std::vector<ChoiceQuestion> questions;
  int64_t number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (IsBlank(line)) continue;
    STRAKE_ASSIGN_OR_RETURN(ChoiceQuestion question, ParseQuestion(line, source, number));
    questions.push_back(std::move(question));
  }
  if (!questions.empty()) return questions;
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": holds no questions; a line is ", kForm));
}

bool LooksLikeChoiceLines(absl::string_view beginning) {
  for (const absl::string_view line : absl::StrSplit(beginning, '\n')) {
    if (IsBlank(line)) continue;
    const auto object = ParseJson(line, "");
    if (object.ok()) return object->is_object() && object->contains("choices");
    // Broken, or cut off.
    return absl::StartsWith(absl::StripLeadingAsciiWhitespace(line), "{") &&
           absl::StrContains(line, "\"choices\"");
  }
  return false;
}

}  // namespace strake
