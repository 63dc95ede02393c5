// Bytes as llm.c's file of questions: any content gives an error, or examples within the limits.
#include <cstdint>

#include "glog/logging.h"
#include "train/evaluation/hellaswag_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view content(reinterpret_cast<const char*>(data), size);
  for (const int64_t max_inputs : {2, 1024}) {
    const auto task = strake::ParseHellaSwagFile(content, "fuzz.bin", 100, max_inputs);
    if (!task.ok()) continue;
    CHECK(strake::LooksLikeHellaSwagFile(content));
    for (const strake::ChoiceExample& example : task->examples) {
      CHECK(0 <= example.answer && example.answer < int64_t(example.options.size()));
      for (const strake::ChoiceOption& option : example.options) {
        CHECK(1 <= option.first && option.first < int64_t(option.ids.size()));
        CHECK_LE(int64_t(option.ids.size()), max_inputs + 1);
        for (const int32_t id : option.ids) CHECK(0 <= id && id < 100);
      }
    }
  }
  return 0;
}
