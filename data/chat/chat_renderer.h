// ChatRenderer: a conversation as the text that a model's template makes of it: equal to that of
// transformers' apply_chat_template().
#ifndef STRAKE_DATA_CHAT_CHAT_RENDERER_H_
#define STRAKE_DATA_CHAT_CHAT_RENDERER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "data/chat/chat_format.h"
#include "data/chat/conversation.h"
#include "data/tokenizer/tokenizer.h"

namespace strake {

// What formats leave open. The texts of tokens; absent where the tokenizer has none.
struct ChatValues {
  std::optional<std::string> begin_of_text = {}, end_of_text = {};
  std::string date = {};  // as "26 Jul 2024"; empty: that of the format
};

struct RenderedChat {
  std::string text;
  // The answers' bytes, in order: what each is closed with belongs to it.
  std::vector<TextSpan> answers;
};

class ChatRenderer {
 public:
  // InvalidArgument for a format that writes a token or a date of which there is none. `format` is
  // one of ChatFormats().
  static absl::StatusOr<ChatRenderer> Create(const ChatFormat* format, const ChatValues& values);

  // InvalidArgument, beginning with the message's column if it has one, for roles in an order that
  // the format does not write, and for a text of the system where it has no place.
  absl::StatusOr<RenderedChat> Render(absl::Span<const ChatMessage> messages,
                                      bool add_generation_prompt) const;

  // A number that differs where format or values write other texts, or other answers.
  uint64_t Fingerprint() const;

  const ChatFormat& format() const { return *format_; }
  std::string end_token() const { return Filled(format_->end_token); }

 private:
  class Writer;
  ChatRenderer(const ChatFormat* format, ChatValues values)
      : format_(format), values_(std::move(values)) {}

  // A text of the format, with the values in it.
  std::string Filled(absl::string_view text) const;
  absl::Status Check(absl::Span<const ChatMessage> messages) const;
  absl::Status CheckSystem(absl::Span<const ChatMessage> messages) const;

  const ChatFormat* format_;
  ChatValues values_;
};

}  // namespace strake

#endif  // STRAKE_DATA_CHAT_CHAT_RENDERER_H_
