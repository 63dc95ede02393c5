#include "train/evaluation/choice_task.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"

namespace strake {
namespace {

// The number of bytes of a character of white space that ends the text, in UTF-8; 0 where another
// character does. Python's str.isspace().
size_t TrailingSpace(absl::string_view text) {
  const auto ends_with = [text](absl::string_view end) {
    return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
  };
  if (text.empty()) return 0;
  const unsigned char last = text.back();
  if (last == ' ' || (last >= 0x09 && last <= 0x0d) || (last >= 0x1c && last <= 0x1f)) return 1;
  if (ends_with("\xc2\x85") || ends_with("\xc2\xa0")) return 2;
  for (const absl::string_view space : {"\xe1\x9a\x80", "\xe2\x80\xa8", "\xe2\x80\xa9",
                                        "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"}) {
    if (ends_with(space)) return 3;
  }
  // U+2000 to U+200A.
  const bool spaces = text.size() >= 3 && text.substr(text.size() - 3, 2) == "\xe2\x80";
  return spaces && last >= 0x80 && last <= 0x8a ? 3 : 0;
}

absl::string_view StripTrailingSpace(absl::string_view text) {
  while (const size_t bytes = TrailingSpace(text)) text.remove_suffix(bytes);
  return text;
}

double NumCharacters(absl::string_view utf8) {
  return static_cast<double>(
      std::count_if(utf8.begin(), utf8.end(), [](char byte) { return !IsUtf8Continuation(byte); }));
}

struct Pair {
  std::vector<int32_t> context, continuation;
};

// What follows nothing but the encoder's start; a text that begins with it has it already.
Pair AfterStart(int32_t start, std::vector<int32_t> ids) {
  if (ids.empty() || ids[0] != start) return {{start}, std::move(ids)};
  return {{start}, {ids.begin() + 1, ids.end()}};
}

absl::StatusOr<Pair> EncodePair(const TextEncoder& encoder, absl::string_view whole_context,
                                const std::string& continuation) {
  const absl::string_view context = StripTrailingSpace(whole_context);
  const std::string rest = absl::StrCat(whole_context.substr(context.size()), continuation);
  std::vector<int32_t> ids = context.empty() ? std::vector<int32_t>() : encoder.Whole(context);
  if (ids.empty()) {
    if (encoder.start.has_value()) return AfterStart(*encoder.start, encoder.Plain(rest));
    return absl::InvalidArgumentError(
        "the context is empty, and the tokenizer names no token that begins or ends a text, to "
        "stand for it; write a context");
  }
  const std::vector<int32_t> whole = encoder.Whole(absl::StrCat(context, rest));
  const size_t cut = std::min(ids.size(), whole.size());
  return Pair{std::move(ids), {whole.begin() + cut, whole.end()}};
}

absl::StatusOr<ChoiceOption> EncodeOption(const TextEncoder& encoder, const std::string& context,
                                          const std::string& choice,
                                          const ChoiceTextOptions& options,
                                          int64_t* num_truncated) {
  STRAKE_ASSIGN_OR_RETURN(const Pair pair,
                          EncodePair(encoder, context, absl::StrCat(options.delimiter, choice)));
  const int64_t size = pair.continuation.size();
  if (size == 0) {
    return absl::InvalidArgumentError("it adds no token to the context; write a longer choice");
  }
  if (size > options.max_inputs) {
    return absl::InvalidArgumentError(absl::StrCat("it has ", size,
                                                   " tokens, and the model takes at most ",
                                                   options.max_inputs, "; write a shorter one"));
  }
  ChoiceOption option = {.ids = pair.context, .length = NumCharacters(choice)};
  option.ids.insert(option.ids.end(), pair.continuation.begin(), pair.continuation.end());
  const int64_t excess = static_cast<int64_t>(option.ids.size()) - (options.max_inputs + 1);
  if (excess > 0) {
    option.ids.erase(option.ids.begin(), option.ids.begin() + excess);
    ++*num_truncated;
  }
  option.first = static_cast<int64_t>(option.ids.size()) - size;
  return option;
}

}  // namespace

absl::StatusOr<ChoiceTask> TokenizeChoices(absl::Span<const ChoiceQuestion> questions,
                                           absl::string_view source, const TextEncoder& encoder,
                                           const ChoiceTextOptions& options) {
  ChoiceTask task = {.name = std::string(source)};
  for (const ChoiceQuestion& question : questions) {
    ChoiceExample example = {.answer = question.answer};
    for (const std::string& choice : question.choices) {
      auto option = EncodeOption(encoder, question.context, choice, options, &task.num_truncated);
      if (!option.ok()) {
        return absl::Status(option.status().code(),
                            absl::StrCat(source, ", line ", question.line, ": choice ",
                                         example.options.size(), ": ", option.status().message()));
      }
      example.options.push_back(*std::move(option));
    }
    task.examples.push_back(std::move(example));
  }
  return task;
}

}  // namespace strake
