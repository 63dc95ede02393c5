#include "data/tokenizer/formats/added_tokens_json.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/formats/json_fields.h"

namespace strake {

absl::StatusOr<AddedToken> ReadAddedToken(const nlohmann::json& value, int64_t id,
                                          const std::string& where) {
  JsonFields fields(value, where);
  AddedToken token;
  token.id = static_cast<int32_t>(id);
  token.text = fields.String("content");
  token.special = fields.Bool("special", false);
  token.lstrip = fields.Bool("lstrip", false);
  token.rstrip = fields.Bool("rstrip", false);
  token.single_word = fields.Bool("single_word", false);
  token.normalized = fields.Bool("normalized", !token.special);
  fields.Ignore({"id", "__type"});
  if (id < 0 || id >= kMaxVocabSize) {
    fields.Fail(absl::StrCat("has the id ", id, ", which is not from 0 to ", kMaxVocabSize - 1));
  }
  STRAKE_RETURN_IF_ERROR(fields.Finish());
  return token;
}

}  // namespace strake
