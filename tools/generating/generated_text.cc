#include "tools/generating/generated_text.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/json.h"
#include "core/base/printable.h"
#include "nlohmann/json.hpp"
#include "tools/generating/write_text.h"

namespace strake {

GeneratedText::GeneratedText(const std::vector<Prompt>& prompts, const Tokenizer* tokenizer,
                             const Options& options, std::ostream* out)
    : prompts_(prompts), tokenizer_(tokenizer), options_(options), out_(out) {
  for (const Prompt& prompt : prompts) {
    Row& row = rows_.emplace_back();
    if (tokenizer == nullptr) continue;
    // The text goes on where the prompt ends: a blank at the beginning of a text may mean nothing,
    // and one within it does.
    row.decoder.emplace_back(tokenizer, /*skip_special=*/true);
    for (const int32_t token : prompt.tokens) row.decoder[0].Add(token);
  }
}

std::string GeneratedText::PromptText(const Prompt& prompt) const {
  return tokenizer_ != nullptr ? prompt.text : absl::StrJoin(prompt.tokens, ",");
}

std::string GeneratedText::TextOf(Row* row, const GeneratedToken& token) const {
  if (tokenizer_ == nullptr) return absl::StrCat(",", token.token);
  // An end is no text.
  std::string text = token.is_end ? "" : row->decoder[0].Add(token.token);
  if (token.is_last) text += row->decoder[0].End();
  return text;
}

absl::Status GeneratedText::Begin() {
  if (Streams()) Print(PromptText(prompts_[0]));
  return written_;
}

absl::Status GeneratedText::Add(const GeneratedToken& token) {
  Row& row = rows_[token.prompt];
  const std::string text = TextOf(&row, token);
  row.tokens.push_back(token.token);
  row.is_complete = token.is_last;
  row.has_end = token.is_end;
  if (Streams()) {
    Print(text);
  } else {
    row.text += text;
    if (row.is_complete) PrintComplete();
  }
  return written_;
}

absl::Status GeneratedText::End() {
  if (Streams()) Print("\n");
  return written_;
}

std::string GeneratedText::Json(const Prompt& prompt, const Row& row) const {
  nlohmann::ordered_json json;
  if (tokenizer_ != nullptr) {
    json["prompt"] = prompt.text;
    json["text"] = row.text;
  }
  json["prompt_tokens"] = prompt.tokens;
  json["tokens"] = row.tokens;
  json["stopped_by"] = row.has_end ? "end_token" : "max_tokens";
  return JsonText(json);
}

void GeneratedText::PrintComplete() {
  for (; num_printed_ < rows_.size() && rows_[num_printed_].is_complete; ++num_printed_) {
    const Prompt& prompt = prompts_[num_printed_];
    const Row& row = rows_[num_printed_];
    if (options_.json) {
      Print(Json(prompt, row) + "\n");
    } else {
      Print(absl::StrCat(num_printed_ > 0 ? "---\n" : "", PromptText(prompt), row.text, "\n"));
    }
  }
}

void GeneratedText::Print(const std::string& text) {
  if (!written_.ok()) return;
  written_ = WriteText(options_.terminal ? PrintableLines(text) : text, out_);
}

}  // namespace strake
