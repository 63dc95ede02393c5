// ChatEncoder: a conversation as tokens, and which of them are answers, to be learnt.
//
// The tokens are those of the whole text (chat_renderer.h), so special tokens count wherever they
// stand, those spelled in a content too: transformers' apply_chat_template(tokenize=True) does so.
//
//   messages               a token is answer where it holds a byte of an answer
//   prompt and completion  answer is from where the tokens of both begin to differ from those of
//                          the prompt alone, which ends with the generation prompt, up to the end
//
// These are the masks of TRL 1.16: assistant_only_loss, and that of completions. Prompt and
// completion that are texts have no format: the tokenizer's end of text follows unless they end so.
#ifndef STRAKE_DATA_CHAT_CHAT_ENCODER_H_
#define STRAKE_DATA_CHAT_CHAT_ENCODER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/chat/chat_format.h"
#include "data/chat/chat_renderer.h"
#include "data/chat/conversation.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/word_cache.h"

namespace strake {

// A conversation as a text, before it becomes tokens.
struct ChatText {
  std::string text = {};
  std::vector<TextSpan> answers = {};  // of messages: the answers' bytes, in order
  // Of a prompt and a completion. What the tokens have in common with those of `prompt` is no
  // answer, and all else is.
  std::optional<std::string> prompt = {};
  bool has_format = true;  // no: the tokenizer's prefix and suffix belong to both
};

struct ChatTokens {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> is_answer;  // 1 or 0, for each token
};

class ChatEncoder {
 public:
  // `tokenizer` must outlive it. Without a format (null) it encodes prompts and completions that
  // are texts. `date` is as ChatValues has it. InvalidArgument for a format that the tokenizer does
  // not fit: the token that closes an answer is missing, or another that the format writes.
  static absl::StatusOr<ChatEncoder> Create(const ChatFormat* format, const Tokenizer* tokenizer,
                                            const std::string& date);

  // InvalidArgument for what ChatRenderer refuses, for messages without a format, and for a text of
  // the system that the format leaves out of a conversation that ends with an answer.
  absl::StatusOr<ChatText> Render(const Conversation& conversation) const;
  ChatTokens Encode(const ChatText& chat, WordCache* cache) const;
  absl::StatusOr<ChatTokens> Encode(const Conversation& conversation, WordCache* cache) const;

  // The tokens that an answer to the last message follows.
  absl::StatusOr<std::vector<int32_t>> EncodePrompt(absl::Span<const ChatMessage> messages,
                                                    WordCache* cache) const;

  const ChatFormat* format() const { return renderer_ ? &renderer_->format() : nullptr; }
  // All that sets the tokens besides the tokenizer, for a person and to compare: "llama3" and a
  // hash of what it writes, or that there is no format.
  std::string Description() const;

  // The token that closes an answer. Absent without a format where the tokenizer has no end of
  // text.
  std::optional<int32_t> end_token() const { return end_token_; }

 private:
  ChatEncoder(const Tokenizer* tokenizer, std::optional<ChatRenderer> renderer,
              std::optional<int32_t> end_token)
      : tokenizer_(tokenizer), renderer_(std::move(renderer)), end_token_(end_token) {}

  absl::Status CheckHasFormat() const;
  absl::Status CheckSystemIsKept(const Conversation& conversation) const;
  absl::StatusOr<ChatText> RenderMessages(const Conversation& conversation) const;
  absl::StatusOr<ChatText> RenderTexts(const Conversation& conversation) const;
  // The tokens of a text, without a format with those that the tokenizer puts before and after it.
  std::vector<int32_t> EncodeText(absl::string_view text, bool has_format, WordCache* cache) const;

  const Tokenizer* tokenizer_;
  std::optional<ChatRenderer> renderer_;
  std::optional<int32_t> end_token_;
};

}  // namespace strake

#endif  // STRAKE_DATA_CHAT_CHAT_ENCODER_H_
