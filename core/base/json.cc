#include "core/base/json.h"

#include <charconv>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr size_t kMaxDepth = 64;

// Builds the value event by event, so that an invalid text is rejected where the error is. A
// function then returns false, with the reason in error().
template <typename Json>
class StrictBuilder : public nlohmann::json_sax<Json> {
 public:
  using typename nlohmann::json_sax<Json>::number_integer_t;
  using typename nlohmann::json_sax<Json>::number_unsigned_t;
  using typename nlohmann::json_sax<Json>::number_float_t;
  using typename nlohmann::json_sax<Json>::string_t;
  using typename nlohmann::json_sax<Json>::binary_t;

  bool null() override { return Put(nullptr) != nullptr; }
  bool boolean(bool value) override { return Put(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return Put(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return Put(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override {
    return Put(value) != nullptr;
  }
  bool string(string_t& value) override { return Put(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return Fail("binary values are not JSON"); }

  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& key) override {
    const auto [field, is_new] = open_.back()->emplace(key, nullptr);
    if (!is_new) return Fail(absl::StrCat("duplicate key \"", key, "\""));
    field_ = &*field;
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    const std::string message = error.what();
    // The library's "[json.exception.parse_error.101] " means nothing to the author of the text.
    const size_t tag_end = message.find("] ");
    return Fail(tag_end == std::string::npos ? message : message.substr(tag_end + 2));
  }

  Json& root() { return root_; }
  const std::string& error() const { return error_; }

 private:
  Json* Put(Json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    if (open_.back()->is_array()) return &open_.back()->emplace_back(std::move(value));
    return &(*field_ = std::move(value));
  }

  bool Open(Json container) {
    if (open_.size() == kMaxDepth) return Fail(absl::StrCat("more than ", kMaxDepth, " levels"));
    open_.push_back(Put(std::move(container)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  bool Fail(std::string reason) {
    error_ = std::move(reason);
    return false;
  }

  Json root_;
  std::vector<Json*> open_;  // a container does not move while one inside it is open
  Json* field_ = nullptr;    // of the last key, whose value comes next
  std::string error_;
};

absl::Status BadJson(absl::string_view source, absl::string_view error) {
  return absl::InvalidArgumentError(absl::StrCat(source, ": bad JSON: ", error));
}

template <typename Json>
absl::StatusOr<Json> Parse(absl::string_view text, absl::string_view source) {
  StrictBuilder<Json> builder;
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return BadJson(source, builder.error());
  }
  return std::move(builder.root());
}

template <typename Json>
std::string Text(const Json& value, int indent) {
  return value.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

template <typename Json>
std::string Quote(const Json& value) {
  constexpr size_t kMaxLength = 80;
  const std::string text =
      value.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  return text.size() <= kMaxLength ? text : text.substr(0, kMaxLength) + "...";
}

}  // namespace

absl::StatusOr<json> ParseJson(absl::string_view text, absl::string_view source) {
  return Parse<json>(text, source);
}
absl::StatusOr<json> ParseJsonLine(absl::string_view line, absl::string_view place) {
  StrictBuilder<json> builder;
  if (json::sax_parse(line.begin(), line.end(), &builder)) return std::move(builder.root());
  absl::string_view error = builder.error();
  // The parser sees this line alone, and calls it the first.
  if (absl::ConsumePrefix(&error, "parse error at line 1, ")) {
    return BadJson(place, absl::StrCat("parse error at ", error));
  }
  return BadJson(place, error);
}
absl::StatusOr<ordered_json> ParseOrderedJson(absl::string_view text, absl::string_view source) {
  return Parse<ordered_json>(text, source);
}

std::string JsonText(const json& value, int indent) { return Text(value, indent); }
std::string JsonText(const ordered_json& value, int indent) { return Text(value, indent); }

std::string JsonNumber(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof(text), value).ptr);
}

std::string QuoteJson(const json& value) { return Quote(value); }
std::string QuoteJson(const ordered_json& value) { return Quote(value); }

}  // namespace strake
