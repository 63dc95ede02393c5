// Bytes as lines of questions: any text gives an error, or questions that can be tokenized.
#include <cstdint>

#include "glog/logging.h"
#include "train/evaluation/choice_lines.h"
#include "train/evaluation/choice_task.h"
#include "train/evaluation/text_encoder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  strake::LooksLikeChoiceLines(text);
  const auto questions = strake::ParseChoiceLines(text, "fuzz.jsonl");
  if (!questions.ok()) return 0;
  for (const strake::ChoiceQuestion& question : *questions) {
    CHECK(0 <= question.answer && question.answer < int64_t(question.choices.size()));
  }
  strake::TextEncoder encoder = strake::ByteEncoder();
  encoder.start = 10;
  for (const int64_t max_inputs : {1, 5, 1000}) {
    const auto task = strake::TokenizeChoices(*questions, "fuzz.jsonl", encoder,
                                              {.delimiter = "", .max_inputs = max_inputs});
    if (!task.ok()) continue;
    for (const strake::ChoiceExample& example : task->examples) {
      for (const strake::ChoiceOption& option : example.options) {
        CHECK(1 <= option.first && option.first < int64_t(option.ids.size()));
        CHECK_LE(int64_t(option.ids.size()), max_inputs + 1);
      }
    }
  }
  return 0;
}
