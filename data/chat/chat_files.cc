#include "data/chat/chat_files.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/name_error.h"
#include "core/base/path_kind.h"
#include "core/base/status_macros.h"
#include "data/chat/chat_template.h"
#include "data/text/byte_source.h"
#include "data/text/document_reader.h"
#include "data/text/json_line.h"
#include "data/text/line_reader.h"

namespace strake {
namespace {

using Form = Conversation::Form;

const JsonNode* Find(const JsonNode& object, absl::string_view name) {
  for (size_t i = 0; i < object.names.size(); ++i) {
    if (object.names[i] == name) return &object.values[i];
  }
  return nullptr;
}

std::optional<Form> FormOfObject(const JsonNode& object, absl::string_view text_field) {
  if (Find(object, text_field) != nullptr) return std::nullopt;
  if (Find(object, "messages") != nullptr) return Form::kMessages;
  const JsonNode* const prompt = Find(object, "prompt");
  if (prompt == nullptr || Find(object, "completion") == nullptr) return std::nullopt;
  return prompt->kind == JsonNode::Kind::kString ? Form::kTexts : Form::kPromptAndCompletion;
}

// What is known of files before they are read.
struct Found {
  std::string chat, text;      // the first file of each kind
  std::string needs_a_format;  // the first file of messages
};

Found Look(const ChatFilesOptions& options) {
  Found found;
  const auto set = [](std::string* first, const std::string& file) {
    if (first->empty()) *first = file;
  };
  for (const std::string& file : options.files) {
    const std::optional<Form> form = FormOfFile(file, options.text_field);
    set(form.has_value() || options.all_are_chats ? &found.chat : &found.text, file);
    if (form.has_value() && *form != Form::kTexts) set(&found.needs_a_format, file);
  }
  return found;
}

absl::StatusOr<const ChatFormat*> FormatOfFolder(const std::string& folder) {
  if (!folder.empty()) return ChatFormatOfModel(folder);
  return absl::NotFoundError(absl::StrCat(
      "no folder with a chat template is known; choose a chat format of ", ChatFormatNames()));
}

// Null where prompts and completions are texts, so that none is needed.
absl::StatusOr<const ChatFormat*> FindFormat(const ChatFilesOptions& options, const Found& found) {
  if (!options.format.empty()) return FindChatFormat(options.format);
  const bool needs_a_format = !found.needs_a_format.empty();
  if (!needs_a_format && !options.all_are_chats) return nullptr;
  const auto format = FormatOfFolder(options.folder);
  if (!absl::IsNotFound(format.status())) return format;
  if (!needs_a_format) return nullptr;
  return absl::InvalidArgumentError(
      absl::StrCat(found.needs_a_format, " holds messages, and ", format.status().message()));
}

}  // namespace

std::optional<Form> FormOfLine(absl::string_view line, absl::string_view text_field) {
  const auto object = ParseJsonObject(line);
  return object.ok() ? FormOfObject(*object, text_field) : std::nullopt;
}

std::optional<Form> FormOfFile(const std::string& path, absl::string_view text_field) {
  const auto kind = PathKindOf(path);
  if (!kind.ok() || *kind != PathKind::kFile || !IsJsonLines(path, {})) return std::nullopt;
  const auto source = ByteSource::Open(path);
  if (!source.ok()) return std::nullopt;
  LineReader lines(source->get());
  if (!lines.Start().ok()) return std::nullopt;
  while (true) {
    absl::string_view line;
    const auto more = lines.Next(&line);
    if (!more.ok() || !*more) return std::nullopt;
    const auto object = ParseJsonObject(line);
    if (object.ok()) return FormOfObject(*object, text_field);
  }
}

absl::StatusOr<std::optional<ChatEncoder>> OpenChatFiles(const ChatFilesOptions& options,
                                                         const Tokenizer* tokenizer) {
  const Found found = Look(options);
  if (found.chat.empty()) return std::nullopt;
  if (!found.text.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.name_of_files, ": ", found.chat, " holds conversations, and ",
                     found.text, " holds other text: keep them apart, each with its own kind"));
  }
  const absl::string_view name = options.name_of_format;
  STRAKE_ASSIGN_OR_RETURN(const ChatFormat* const format,
                          NameError(name, FindFormat(options, found)));
  STRAKE_ASSIGN_OR_RETURN(
      ChatEncoder encoder,
      NameError(name, ChatEncoder::Create(format, tokenizer, std::string(kTrainingDate))));
  return std::optional<ChatEncoder>(std::move(encoder));
}

}  // namespace strake
