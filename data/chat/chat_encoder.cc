#include "data/chat/chat_encoder.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {
namespace {

std::optional<std::string> TextOf(const Tokenizer& tokenizer, std::optional<int32_t> token) {
  if (!token.has_value()) return std::nullopt;
  return tokenizer.spec().tokens[*token];
}

bool IsAdded(const Tokenizer& tokenizer, int32_t token) {
  const std::vector<AddedToken>& added = tokenizer.spec().added;
  return std::any_of(added.begin(), added.end(),
                     [&](const AddedToken& other) { return other.id == token; });
}

// The tokens of prompt and completion: what both begin with is the prompt.
ChatTokens AfterPrompt(absl::Span<const int32_t> prompt, std::vector<int32_t> whole) {
  const size_t size = std::min(prompt.size(), whole.size());
  const size_t same =
      std::mismatch(whole.begin(), whole.begin() + size, prompt.begin()).first - whole.begin();
  ChatTokens chat;
  chat.is_answer.resize(whole.size(), 1);
  std::fill_n(chat.is_answer.begin(), same, 0);
  chat.tokens = std::move(whole);
  return chat;
}

}  // namespace

absl::StatusOr<ChatEncoder> ChatEncoder::Create(const ChatFormat* format,
                                                const Tokenizer* tokenizer,
                                                const std::string& date) {
  const TokenizerSpec& spec = tokenizer->spec();
  if (format == nullptr) return ChatEncoder(tokenizer, std::nullopt, spec.end_of_text);
  const ChatValues values = {TextOf(*tokenizer, spec.begin_of_text),
                             TextOf(*tokenizer, spec.end_of_text), date};
  STRAKE_ASSIGN_OR_RETURN(ChatRenderer renderer, ChatRenderer::Create(format, values));
  const std::string end_token = renderer.end_token();
  const std::optional<int32_t> token = tokenizer->Find(end_token);
  if (token.has_value() && IsAdded(*tokenizer, *token)) {
    return ChatEncoder(tokenizer, std::move(renderer), token);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the tokenizer has no added token \"", end_token,
                   "\", with which the chat format ", format->name,
                   " closes an answer: choose the format of the model, or a tokenizer "
                   "that has it"));
}

absl::Status ChatEncoder::CheckSystemIsKept(const Conversation& conversation) const {
  if (renderer_->format().system_place != SystemPlace::kLastUser) return absl::OkStatus();
  if (conversation.messages[0].role != ChatRole::kSystem) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "column ", conversation.messages[0].column, ": the chat format ", renderer_->format().name,
      " writes the system's text into a last message of the user, and leaves it out where an "
      "answer "
      "follows: write it into the user's first message"));
}

absl::Status ChatEncoder::CheckHasFormat() const {
  if (renderer_.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("messages need a chat format; choose one of ", ChatFormatNames()));
}

absl::StatusOr<ChatText> ChatEncoder::RenderMessages(const Conversation& conversation) const {
  STRAKE_RETURN_IF_ERROR(CheckHasFormat());
  STRAKE_RETURN_IF_ERROR(CheckSystemIsKept(conversation));
  STRAKE_ASSIGN_OR_RETURN(RenderedChat whole, renderer_->Render(conversation.messages,
                                                                /*add_generation_prompt=*/false));
  ChatText chat = {.text = std::move(whole.text), .answers = std::move(whole.answers)};
  if (conversation.form == Conversation::Form::kMessages) return chat;
  const auto messages =
      absl::MakeConstSpan(conversation.messages).first(conversation.num_prompt_messages);
  STRAKE_ASSIGN_OR_RETURN(RenderedChat prompt,
                          renderer_->Render(messages, /*add_generation_prompt=*/true));
  chat.prompt = std::move(prompt.text);
  return chat;
}

absl::StatusOr<ChatText> ChatEncoder::RenderTexts(const Conversation& conversation) const {
  const auto end = TextOf(*tokenizer_, tokenizer_->spec().end_of_text);
  if (!end.has_value()) {
    return absl::InvalidArgumentError(
        "the tokenizer names no token that ends a text (eos_token), which would close a "
        "completion");
  }
  ChatText chat = {.text = conversation.prompt + conversation.completion,
                   .prompt = conversation.prompt,
                   .has_format = false};
  if (!absl::EndsWith(conversation.completion, *end)) chat.text += *end;
  return chat;
}

absl::StatusOr<ChatText> ChatEncoder::Render(const Conversation& conversation) const {
  return conversation.form == Conversation::Form::kTexts ? RenderTexts(conversation)
                                                         : RenderMessages(conversation);
}

std::vector<int32_t> ChatEncoder::EncodeText(absl::string_view text, bool has_format,
                                             WordCache* cache) const {
  std::vector<int32_t> tokens;
  if (!has_format) tokens = tokenizer_->spec().prefix;
  tokenizer_->Encode(text, cache, &tokens);
  if (has_format) return tokens;
  const std::vector<int32_t>& suffix = tokenizer_->spec().suffix;
  tokens.insert(tokens.end(), suffix.begin(), suffix.end());
  return tokens;
}

ChatTokens ChatEncoder::Encode(const ChatText& chat, WordCache* cache) const {
  if (chat.prompt.has_value()) {
    return AfterPrompt(EncodeText(*chat.prompt, chat.has_format, cache),
                       EncodeText(chat.text, chat.has_format, cache));
  }
  ChatTokens tokens;
  tokenizer_->EncodeWithSpans(chat.text, chat.answers, cache, &tokens.tokens, &tokens.is_answer);
  return tokens;
}

absl::StatusOr<ChatTokens> ChatEncoder::Encode(const Conversation& conversation,
                                               WordCache* cache) const {
  STRAKE_ASSIGN_OR_RETURN(const ChatText chat, Render(conversation));
  return Encode(chat, cache);
}

absl::StatusOr<std::vector<int32_t>> ChatEncoder::EncodePrompt(
    absl::Span<const ChatMessage> messages, WordCache* cache) const {
  STRAKE_RETURN_IF_ERROR(CheckHasFormat());
  STRAKE_ASSIGN_OR_RETURN(const RenderedChat chat,
                          renderer_->Render(messages, /*add_generation_prompt=*/true));
  return EncodeText(chat.text, /*has_format=*/true, cache);
}

std::string ChatEncoder::Description() const {
  if (!renderer_.has_value()) return "no chat format";
  return absl::StrCat("chat format ", renderer_->format().name, " ",
                      absl::Hex(renderer_->Fingerprint(), absl::kZeroPad16));
}

}  // namespace strake
