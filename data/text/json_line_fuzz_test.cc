// Lines as JSON: what is taken for an object is JSON to another parser too, and has the same
// member.
#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "data/text/json_line.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

bool HasExponent(absl::string_view line) {
  const auto is_exponent = [](char a, char b) {
    return absl::ascii_isdigit(static_cast<unsigned char>(a)) && (b == 'e' || b == 'E');
  };
  return std::adjacent_find(line.begin(), line.end(), is_exponent) != line.end();
}

// The other parser keeps the last of equal names, has no limit of levels, takes a NUL for the end,
// and refuses numbers that a double does not hold.
void Compare(absl::string_view line) {
  if (absl::StrContains(line, '\0') || HasExponent(line)) return;
  std::string buffer;
  const auto member = JsonStringMember(line, "text", &buffer);
  const auto value = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
  const bool has_text = value.is_object() && value.contains("text") && value["text"].is_string();
  if (member.ok()) {
    CHECK(has_text) << line;
    CHECK(value["text"].get<std::string>() == std::string(*member)) << line;
  } else if (has_text) {
    const std::string message(member.status().message());
    CHECK(message.find("twice") != std::string::npos || message.find("levels") != std::string::npos)
        << line << ": " << message;
  }
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view content(reinterpret_cast<const char*>(data), size);
  for (const absl::string_view line : absl::StrSplit(content, '\n')) strake::Compare(line);
  return 0;
}
