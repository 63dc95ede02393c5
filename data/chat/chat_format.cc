#include "data/chat/chat_format.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/printable.h"

namespace strake {
namespace {

ChatFormat ChatMl(absl::string_view name, std::optional<absl::string_view> default_system) {
  return {.name = name,
          .user = {"<|im_start|>user\n", "<|im_end|>\n"},
          .assistant = {"<|im_start|>assistant\n", "<|im_end|>\n"},
          .generation_prompt = "<|im_start|>assistant\n",
          .end_token = "<|im_end|>",
          .system = {"<|im_start|>system\n", "<|im_end|>\n"},
          .default_system = default_system};
}

// TRL's mask of this one begins a line end earlier than those of its relatives.
ChatFormat Qwen2_5() {
  ChatFormat format =
      ChatMl("qwen2.5", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.");
  format.assistant.prefix = "<|im_start|>assistant";
  format.answer_begin = "\n";
  return format;
}

ChatFormat Llama2() {
  return {.name = "llama2",
          .user = {"{bos}[INST] ", " [/INST]", /*strips=*/true},
          .assistant = {"", " {eos}", /*strips=*/true},
          .answer_begin = " ",
          .end_token = "{eos}",
          .system_place = SystemPlace::kFirstUser,
          .system = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
          .strips_with_system = true,
          .alternates = true};
}

ChatFormat Llama3(absl::string_view name) {
  return {.name = name,
          .begin = "{bos}",
          .user = {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>", /*strips=*/true},
          .assistant = {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>",
                        /*strips=*/true},
          .generation_prompt = "<|start_header_id|>assistant<|end_header_id|>\n\n",
          .end_token = "<|eot_id|>",
          .system = {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>",
                     /*strips=*/true}};
}

ChatFormat Llama3WithDate(absl::string_view name, absl::string_view default_date) {
  ChatFormat format = Llama3(name);
  format.first_system_prefix =
      "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
      "Today Date: {date}\n\n";
  format.default_system = "";
  format.default_date = default_date;
  return format;
}

ChatFormat Gemma(absl::string_view name, SystemPlace system_place) {
  return {.name = name,
          .begin = "{bos}",
          .user = {"<start_of_turn>user\n", "<end_of_turn>\n", /*strips=*/true},
          .assistant = {"<start_of_turn>model\n", "<end_of_turn>\n", /*strips=*/true},
          .generation_prompt = "<start_of_turn>model\n",
          .end_token = "<end_of_turn>",
          .system_place = system_place,
          .system = {"", "\n\n"},
          .alternates = true};
}

ChatFormat Mistral(absl::string_view name, SystemPlace system_place, const ChatTurn& user,
                   absl::string_view answer_begin) {
  return {.name = name,
          .begin = "{bos}",
          .user = user,
          .assistant = {"", "{eos}"},
          .answer_begin = answer_begin,
          .end_token = "{eos}",
          .system_place = system_place,
          .system = {"", "\n\n"},
          .alternates = true};
}

ChatFormat Mistral0_1() {
  ChatFormat format =
      Mistral("mistral-v0.1", SystemPlace::kNowhere, {"[INST] ", " [/INST]"}, /*answer_begin=*/"");
  format.after_answer = " ";
  return format;
}

ChatFormat Mistral3() {
  ChatFormat format = Mistral("mistral-v3", SystemPlace::kLastUser, {"[INST] ", "[/INST]"}, " ");
  format.assistant.strips = true;
  return format;
}

ChatFormat Mistral7() {
  ChatFormat format = Mistral("mistral-v7", SystemPlace::kTurn, {"[INST] ", "[/INST]"}, " ");
  format.system = {"[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]"};
  format.alternates = false;
  return format;
}

ChatFormat Phi3(absl::string_view name) {
  return {.name = name,
          .user = {"<|user|>\n", "<|end|>\n"},
          .assistant = {"<|assistant|>\n", "<|end|>\n"},
          .generation_prompt = "<|assistant|>\n",
          .end = "{eos}",
          .end_token = "<|end|>",
          .system = {"<|system|>\n", "<|end|>\n"}};
}

ChatFormat Phi3Small() {
  ChatFormat format = Phi3("phi3-small");
  format.begin = "{bos}";
  return format;
}

ChatFormat Phi3_5() {
  ChatFormat format = Phi3("phi3.5");
  format.drops_empty_system = true;
  return format;
}

// The first templates of the family: a turn of the user ends with the prompt for an answer.
ChatFormat Phi3Prompting(absl::string_view name, absl::string_view begin) {
  ChatFormat format = Phi3(name);
  format.begin = begin;
  format.user.suffix = "<|end|>\n<|assistant|>\n";
  format.assistant.prefix = format.generation_prompt = format.end = "";
  format.system_place = SystemPlace::kNowhere;
  return format;
}

ChatFormat Phi4() {
  return {.name = "phi4",
          .user = {"<|im_start|>user<|im_sep|>", "<|im_end|><|im_start|>assistant<|im_sep|>"},
          .assistant = {"", "<|im_end|>"},
          .end_token = "<|im_end|>",
          .system = {"<|im_start|>system<|im_sep|>", "<|im_end|>"}};
}

ChatFormat Zephyr() {
  return {.name = "zephyr",
          .user = {"<|user|>\n", "{eos}\n"},
          .assistant = {"<|assistant|>\n", "{eos}"},
          .after_answer = "\n",
          .generation_prompt = "<|assistant|>\n",
          .end_token = "{eos}",
          .system = {"<|system|>\n", "{eos}\n"}};
}

std::vector<ChatFormat> MakeFormats() {
  return {
      ChatMl("chatml", std::nullopt),
      ChatMl("qwen2", "You are a helpful assistant."),
      Qwen2_5(),
      ChatMl("smollm2", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
      Llama2(),
      Llama3("llama3"),
      Llama3WithDate("llama3.1", "26 Jul 2024"),
      Llama3WithDate("llama3.2", ""),
      Gemma("gemma", SystemPlace::kNowhere),
      Gemma("gemma3", SystemPlace::kFirstUser),
      Mistral0_1(),
      Mistral("mistral-v0.2", SystemPlace::kNowhere, {"[INST] ", " [/INST]"}, ""),
      Mistral("mistral-v1", SystemPlace::kFirstUser, {" [INST] ", " [/INST]"}, " "),
      Mistral3(),
      Mistral("mistral-tekken", SystemPlace::kLastUser, {"[INST]", "[/INST]"}, ""),
      Mistral7(),
      Phi3Prompting("phi3-mini", "{bos}"),
      Phi3Prompting("phi3-medium", ""),
      Phi3Small(),
      Phi3("phi3"),
      Phi3_5(),
      Phi4(),
      Zephyr(),
  };
}

}  // namespace

absl::Span<const ChatFormat> ChatFormats() {
  static const auto* const formats = new std::vector<ChatFormat>(MakeFormats());
  return *formats;
}

std::string ChatFormatNames() {
  return absl::StrJoin(ChatFormats(), ", ", [](std::string* out, const ChatFormat& format) {
    absl::StrAppend(out, format.name);
  });
}

absl::StatusOr<const ChatFormat*> FindChatFormat(absl::string_view name) {
  const auto formats = ChatFormats();
  const auto found = std::find_if(formats.begin(), formats.end(),
                                  [&](const ChatFormat& format) { return format.name == name; });
  if (found != formats.end()) return &*found;
  return absl::InvalidArgumentError(absl::StrCat("there is no chat format \"", Printable(name),
                                                 "\"; there are ", ChatFormatNames()));
}

}  // namespace strake
