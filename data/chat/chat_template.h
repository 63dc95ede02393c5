// Which chat format a model's template is: by a hash of its text, for templates are programs in a
// language (Jinja) of which nothing is read here.
#ifndef STRAKE_DATA_CHAT_CHAT_TEMPLATE_H_
#define STRAKE_DATA_CHAT_CHAT_TEMPLATE_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/chat/chat_format.h"

namespace strake {

// The SHA-256 of a template's text, without a line end at its end, which Jinja drops too.
std::string ChatTemplateHash(absl::string_view text);

// The format of the template of this hash. Null for one that is not known.
const ChatFormat* FormatOfChatTemplate(absl::string_view hash);

// The text of the template in a model's folder: that of chat_template.jinja, or else of the member
// "chat_template" of tokenizer_config.json; of several with names, that called "default". Absent
// where there is none. An error names the file.
absl::StatusOr<std::optional<std::string>> ReadChatTemplate(const std::string& folder);

// The format of the model in a folder. NotFound, with the formats to choose from, where there is no
// template or it is not known.
absl::StatusOr<const ChatFormat*> ChatFormatOfModel(const std::string& folder);

}  // namespace strake

#endif  // STRAKE_DATA_CHAT_CHAT_TEMPLATE_H_
