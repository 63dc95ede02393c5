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

  // InvalidArgument for what Render() refuses, for messages without a format, and for a text of the
  // system that the format leaves out of a conversation that ends with an answer.
  absl::StatusOr<ChatTokens> Encode(const Conversation& conversation, WordCache* cache) const;

  // The tokens that an answer to the last message follows.
  absl::StatusOr<std::vector<int32_t>> EncodePrompt(absl::Span<const ChatMessage> messages,
                                                    WordCache* cache) const;

  // The token that closes an answer. Absent without a format where the tokenizer has no end of
  // text.
  std::optional<int32_t> end_token() const { return end_token_; }

 private:
  ChatEncoder(const Tokenizer* tokenizer, std::optional<ChatRenderer> renderer,
              std::optional<int32_t> end_token)
      : tokenizer_(tokenizer), renderer_(std::move(renderer)), end_token_(end_token) {}

  absl::Status CheckSystemIsKept(const Conversation& conversation) const;
  absl::StatusOr<ChatTokens> EncodeMessages(const Conversation& conversation,
                                            WordCache* cache) const;
  absl::StatusOr<ChatTokens> EncodeTexts(const Conversation& conversation, WordCache* cache) const;
  // The tokens of a text by itself, with those that the tokenizer puts before and after it.
  std::vector<int32_t> EncodeText(absl::string_view text, WordCache* cache) const;

  const Tokenizer* tokenizer_;
  std::optional<ChatRenderer> renderer_;
  std::optional<int32_t> end_token_;
};

}  // namespace strake

#endif  // STRAKE_DATA_CHAT_CHAT_ENCODER_H_
