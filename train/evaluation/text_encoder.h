// TextEncoder: how the text of an evaluation becomes ids.
#ifndef STRAKE_TRAIN_EVALUATION_TEXT_ENCODER_H_
#define STRAKE_TRAIN_EVALUATION_TEXT_ENCODER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace strake {

struct TextEncoder {
  // Appends the ids of a text, without any around it.
  std::function<void(absl::string_view text, std::vector<int32_t>* ids)> append;
  // The ids around a text, as the tokenizer's post-processor has them: begin-of-text, for many.
  std::vector<int32_t> prefix = {}, suffix = {};
  // The id that stands before what has no context: begin-of-text, else end-of-text; and its text. A
  // text that begins so gets no ids around it.
  std::optional<int32_t> start = {};
  std::string start_text = {};
  // The id between two documents of a file: end-of-text.
  std::optional<int32_t> separator = {};
  // The bytes of an id in its text: none for special ones.
  std::function<int64_t(int32_t id)> num_bytes = {};
  // Tokenizer::Hash(), which the boundaries of a token file may name.
  std::string hash = {};

  // The ids of a text by itself, without those around it.
  std::vector<int32_t> Plain(absl::string_view text) const;
  // With those around it.
  std::vector<int32_t> Whole(absl::string_view text) const;
};

// Id i is byte i; nothing stands around a text.
TextEncoder ByteEncoder();

}  // namespace strake

#endif  // STRAKE_TRAIN_EVALUATION_TEXT_ENCODER_H_
