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

// The same value as the other parser's, but for numbers.
void CompareNodes(const JsonNode& node, const nlohmann::json& value) {
  using Kind = JsonNode::Kind;
  switch (node.kind) {
    case Kind::kNull:
      CHECK(value.is_null());
      break;
    case Kind::kBoolean:
      CHECK(value.is_boolean());
      break;
    case Kind::kNumber:
      CHECK(value.is_number());
      break;
    case Kind::kString:
      CHECK(value.is_string() && value.get<std::string>() == node.text);
      break;
    case Kind::kArray:
      CHECK(value.is_array() && value.size() == node.values.size());
      for (size_t i = 0; i < value.size(); ++i) CompareNodes(node.values[i], value[i]);
      break;
    case Kind::kObject:
      CHECK(value.is_object() && node.names.size() == node.values.size());
      for (size_t i = 0; i < node.names.size(); ++i) {
        const auto last = std::find(node.names.rbegin(), node.names.rend(), node.names[i]);
        if (&*last == &node.names[i]) CompareNodes(node.values[i], value.at(node.names[i]));
      }
  }
}

// The other parser keeps the last of equal names, has no limit of levels, takes a NUL for the end,
// and refuses numbers that a double does not hold.
void Compare(absl::string_view line) {
  if (absl::StrContains(line, '\0') || HasExponent(line)) return;
  std::string buffer;
  const auto member = JsonStringMember(line, "text", &buffer);
  const auto value = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
  const auto node = ParseJsonObject(line);
  CHECK(!node.ok() || !value.is_discarded()) << line;
  if (node.ok()) {
    CompareNodes(*node, value);
  } else if (value.is_object()) {
    CHECK(absl::StrContains(node.status().message(), "levels")) << line << node.status();
  }
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
