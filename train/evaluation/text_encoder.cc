#include "train/evaluation/text_encoder.h"

#include "absl/strings/match.h"

namespace strake {

std::vector<int32_t> TextEncoder::Plain(absl::string_view text) const {
  std::vector<int32_t> ids;
  append(text, &ids);
  return ids;
}

std::vector<int32_t> TextEncoder::Whole(absl::string_view text) const {
  if (!start_text.empty() && absl::StartsWith(text, start_text)) return Plain(text);
  std::vector<int32_t> ids = prefix;
  append(text, &ids);
  ids.insert(ids.end(), suffix.begin(), suffix.end());
  return ids;
}

TextEncoder ByteEncoder() {
  return {.append =
              [](absl::string_view text, std::vector<int32_t>* ids) {
                for (const char c : text) ids->push_back(static_cast<unsigned char>(c));
              },
          .num_bytes = [](int32_t) { return int64_t{1}; }};
}

}  // namespace strake
