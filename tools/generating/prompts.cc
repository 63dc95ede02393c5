#include "tools/generating/prompts.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/json.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "data/text/file_content.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr char kMember[] = "prompt";

absl::StatusOr<std::string> PromptOf(absl::string_view line, const std::string& place) {
  STRAKE_ASSIGN_OR_RETURN(const nlohmann::json object, ParseJsonLine(line, place));
  const auto bad = [&](const char* what) {
    return absl::InvalidArgumentError(
        absl::StrCat(place, ": ", what, "; each line is an object like {\"", kMember,
                     "\": \"Once upon\"}, this one is ", QuoteJson(object)));
  };
  if (!object.is_object()) return bad("no object");
  const auto member = object.find(kMember);
  if (member == object.end()) return bad("no member \"prompt\"");
  if (!member->is_string()) return bad("\"prompt\" is no text");
  return member->get<std::string>();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ParsePrompts(absl::string_view content,
                                                      const std::string& path) {
  const bool json = absl::EndsWith(path, ".jsonl") || absl::EndsWith(path, ".ndjson");
  std::vector<std::string> prompts;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(content, '\n')) {
    ++number;
    line = absl::StripSuffix(line, "\r");
    if (line.empty()) continue;
    std::string prompt(line);
    if (json) {
      STRAKE_ASSIGN_OR_RETURN(prompt, PromptOf(line, absl::StrCat(path, ": line ", number)));
    }
    prompts.push_back(std::move(prompt));
  }
  if (!prompts.empty()) return prompts;
  return absl::InvalidArgumentError(absl::StrCat(path, " holds no prompt"));
}

absl::StatusOr<std::vector<std::string>> ReadPrompts(const std::string& path) {
  STRAKE_ASSIGN_OR_RETURN(const ContentKind kind, ContentOfFile(path));
  if (kind.content != FileContent::kText) return NotTextError(path, kind);
  STRAKE_ASSIGN_OR_RETURN(const std::string content, ReadFile(path));
  return ParsePrompts(content, path);
}

}  // namespace strake
