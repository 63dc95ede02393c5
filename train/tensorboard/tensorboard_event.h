// TensorBoardEvent: what a record of TensorBoard's event files says.
//
// The bytes are a protocol buffer: the message Event of TensorFlow's event.proto, as far as scalars
// and texts need it.
#ifndef STRAKE_TRAIN_TENSORBOARD_TENSORBOARD_EVENT_H_
#define STRAKE_TRAIN_TENSORBOARD_TENSORBOARD_EVENT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

// Of a chart or a text that has the name `tag`, whose parts are separated by "/".
struct TensorBoardValue {
  std::string tag = {};
  std::optional<float> scalar = {};
  std::optional<std::string> text = {};  // Markdown

  friend bool operator==(const TensorBoardValue&, const TensorBoardValue&) = default;
};

struct TensorBoardEvent {
  double wall_time = 0;  // seconds since 1970
  int64_t step = 0;
  std::string file_version = {};  // of the first event of a file: kTensorBoardVersion
  std::vector<TensorBoardValue> values = {};

  friend bool operator==(const TensorBoardEvent&, const TensorBoardEvent&) = default;
};

inline constexpr char kTensorBoardVersion[] = "brain.Event:2";

// Bytes of tags and texts that are no UTF-8, which a protocol buffer must not have, become U+FFFD.
std::string EncodeTensorBoardEvent(const TensorBoardEvent& event);

// Skips what TensorBoardEvent has no member for. InvalidArgument for bytes that are no event.
absl::StatusOr<TensorBoardEvent> ParseTensorBoardEvent(absl::string_view bytes);

}  // namespace strake

#endif  // STRAKE_TRAIN_TENSORBOARD_TENSORBOARD_EVENT_H_
