// ChatFormat: how a family of models writes a conversation, as data.
//
//   begin, turns, and then the generation prompt where an answer is to be generated, or else end
//   a turn: prefix, content, suffix; of the assistant also what is said below
//
// "{bos}" and "{eos}" in these texts are the tokenizer's tokens that begin and end a text, "{date}"
// is today. To add a format: a row in chat_format.cc, the hash of the template's text in
// chat_template.cc, and both in testdata/make_chat_goldens.py.
#ifndef STRAKE_DATA_CHAT_CHAT_FORMAT_H_
#define STRAKE_DATA_CHAT_CHAT_FORMAT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace strake {

struct ChatTurn {
  absl::string_view prefix = {}, suffix = {};
  bool strips = false;  // white space at the ends of the content
};

// The place of the system's text.
enum class SystemPlace : uint8_t {
  kTurn,       // anywhere, as a turn of its own
  kFirstUser,  // only the conversation's first: in the first turn of the user, before the content
  kLastUser,   // the same, in the last turn, and nowhere where that is not the user's
  kNowhere,
};

struct ChatFormat {
  absl::string_view name;
  absl::string_view begin = {};
  ChatTurn user, assistant;
  // Text after an answer's prefix and before its content, of which the model makes tokens itself:
  // it counts as answer. So does the suffix, but not what follows that.
  absl::string_view answer_begin = {}, after_answer = {};
  absl::string_view generation_prompt = {};
  absl::string_view end = {};
  // The token that closes an answer.
  absl::string_view end_token;

  SystemPlace system_place = SystemPlace::kTurn;
  ChatTurn system = {};
  // Stands in place of system.prefix where the conversation begins with it, if that differs.
  std::optional<absl::string_view> first_system_prefix = {};
  // What the system says where a conversation does not begin with it.
  std::optional<absl::string_view> default_system = {};
  bool drops_empty_system = false;
  // kFirstUser: `user.strips` is about the system's text as well.
  bool strips_with_system = false;

  // User and assistant take turns, and the user begins.
  bool alternates = false;
  // The "{date}" of a caller who gives none.
  absl::string_view default_date = {};
};

// All of them, in order.
absl::Span<const ChatFormat> ChatFormats();
// "chatml, qwen2, ...", for messages.
std::string ChatFormatNames();
// InvalidArgument, with the names that exist, for another name.
absl::StatusOr<const ChatFormat*> FindChatFormat(absl::string_view name);

}  // namespace strake

#endif  // STRAKE_DATA_CHAT_CHAT_FORMAT_H_
