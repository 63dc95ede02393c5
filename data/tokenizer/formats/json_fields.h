// JsonFields: the fields of a JSON object, each of which must be known to its reader.
//
//   JsonFields fields(object, "tokenizer.json: decoder");
//   const std::string content = fields.String("content");
//   const int64_t start = fields.Int("start");
//   STRAKE_RETURN_IF_ERROR(fields.Finish());
//
// What is wrong is remembered, the first error alone, and a value of the right type is returned
// meanwhile.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_JSON_FIELDS_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_JSON_FIELDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// A text as messages quote it: ASCII, on one line, at most 80 characters and then "...".
std::string QuoteText(absl::string_view text);

class JsonFields {
 public:
  // `object` must outlive it. `where` begins each message.
  JsonFields(const nlohmann::json& object, std::string where);

  // Null where the field is absent, or null itself.
  const nlohmann::json* Find(const std::string& key);
  // An empty string, and an error, where there is none.
  std::string String(const std::string& key);
  std::string String(const std::string& key, absl::string_view absent);
  bool Bool(const std::string& key, std::optional<bool> absent = {});
  int64_t Int(const std::string& key, std::optional<int64_t> absent = {});
  // Fields that change nothing here.
  void Ignore(const std::vector<std::string>& keys);

  const std::string& where() const { return where_; }
  void Fail(const std::string& reason);
  // The first error, or that there is a field which nobody asked for.
  absl::Status Finish();

 private:
  const nlohmann::json* Required(const std::string& key);
  void FailType(const std::string& key, absl::string_view expected, const nlohmann::json& value);

  const nlohmann::json& object_;
  std::string where_;
  std::vector<std::string> known_;
  absl::Status status_;
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_JSON_FIELDS_H_
