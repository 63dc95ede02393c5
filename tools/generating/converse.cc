#include "tools/generating/converse.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "data/chat/conversation.h"
#include "data/tokenizer/word_cache.h"
#include "tools/generating/write_text.h"

namespace strake {
namespace {

class Chat {
 public:
  Chat(const ConverseOptions& options, GenerateAnswer generate, std::ostream* out)
      : options_(options), generate_(generate), out_(out) {
    if (!options.system.empty()) messages_.push_back({ChatRole::kSystem, options.system});
  }

  absl::Status Answer(const std::string& line) {
    messages_.push_back({ChatRole::kUser, line});
    STRAKE_ASSIGN_OR_RETURN(const auto prompt, options_.encoder->EncodePrompt(messages_, &cache_));
    const int64_t room = options_.max_context_tokens - static_cast<int64_t>(prompt.size());
    if (room <= 0) return TooLong(prompt.size());
    StreamDecoder decoder(options_.tokenizer, /*skip_special=*/true);
    std::string answer;
    STRAKE_RETURN_IF_ERROR(generate_(prompt, std::min(room, options_.max_tokens),
                                     options_.seed + num_answers_++,
                                     [&](const GeneratedToken& token) {
                                       if (token.is_end) return absl::OkStatus();
                                       return Print(decoder.Add(token.token), &answer);
                                     }));
    STRAKE_RETURN_IF_ERROR(Print(decoder.End(), &answer));
    messages_.push_back({ChatRole::kAssistant, std::move(answer)});
    return Write("\n");
  }

  absl::Status Write(const std::string& text) { return WriteText(text, out_); }

 private:
  absl::Status Print(const std::string& text, std::string* answer) {
    *answer += text;
    return Write(options_.terminal ? PrintableLines(text) : text);
  }

  absl::Status TooLong(size_t num_tokens) const {
    return absl::InvalidArgumentError(
        absl::StrCat("the conversation has ", num_tokens, " tokens, and there is room for ",
                     options_.max_context_tokens, ": begin a new one"));
  }

  const ConverseOptions& options_;
  const GenerateAnswer generate_;
  std::ostream* out_;
  std::vector<ChatMessage> messages_;
  WordCache cache_;
  uint64_t num_answers_ = 0;
};

}  // namespace

absl::Status Converse(const ConverseOptions& options, GenerateAnswer generate, std::istream* in,
                      std::ostream* out) {
  Chat chat(options, generate, out);
  while (true) {
    if (options.terminal) STRAKE_RETURN_IF_ERROR(chat.Write("> "));
    std::string line;
    if (!std::getline(*in, line) && in->bad()) {
      return absl::UnavailableError("stdin cannot be read any more");
    }
    if (!*in) return options.terminal ? chat.Write("\n") : absl::OkStatus();
    absl::StripAsciiWhitespace(&line);
    if (!line.empty()) STRAKE_RETURN_IF_ERROR(chat.Answer(line));
  }
}

}  // namespace strake
