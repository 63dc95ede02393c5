#include "train/tensorboard/tensorboard_event.h"

#include "absl/strings/str_cat.h"
#include "core/base/utf8.h"
#include "protozero/exception.hpp"
#include "protozero/pbf_reader.hpp"
#include "protozero/pbf_writer.hpp"

namespace strake {
namespace {

using protozero::pbf_reader;
using protozero::pbf_wire_type;
using protozero::pbf_writer;
using protozero::tag_and_type;

// The numbers of fields, and the values of enumerations, in TensorFlow's event.proto,
// summary.proto, tensor.proto, tensor_shape.proto and types.proto.
enum EventField { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5 };
enum SummaryField { kValue = 1 };
enum ValueField { kTag = 1, kSimpleValue = 2, kTensor = 8, kMetadata = 9 };
enum MetadataField { kPluginData = 1 };
enum PluginDataField { kPluginName = 1 };
enum TensorField { kDType = 1, kShape = 2, kStringVal = 8 };
enum TensorDType { kDTypeString = 7 };

std::string ToUtf8(absl::string_view text) {
  std::string valid;
  while (!text.empty()) {
    const size_t num_valid = ValidUtf8Prefix(text);
    absl::StrAppend(&valid, text.substr(0, num_valid));
    text.remove_prefix(num_valid);
    if (text.empty()) break;
    AppendUtf8(0xFFFD, &valid);
    text.remove_prefix(1);
  }
  return valid;
}

// A text is a tensor without dimensions, of one string, that names the plugin for it.
void AddText(const std::string& text, pbf_writer* value) {
  {
    pbf_writer tensor(*value, kTensor);
    tensor.add_enum(kDType, kDTypeString);
    tensor.add_message(kShape, std::string());
    tensor.add_bytes(kStringVal, ToUtf8(text));
  }
  pbf_writer metadata(*value, kMetadata);
  pbf_writer(metadata, kPluginData).add_string(kPluginName, "text");
}

void AddValue(const TensorBoardValue& value, pbf_writer* summary) {
  pbf_writer message(*summary, kValue);
  message.add_string(kTag, ToUtf8(value.tag));
  if (value.scalar.has_value()) message.add_float(kSimpleValue, *value.scalar);
  if (value.text.has_value()) AddText(*value.text, &message);
}

template <typename Field>
constexpr uint32_t Bytes(Field field) {
  return tag_and_type(field, pbf_wire_type::length_delimited);
}

std::optional<std::string> ParseText(pbf_reader tensor) {
  std::optional<std::string> text;
  while (tensor.next()) {
    if (tensor.tag_and_type() == Bytes(kStringVal) && !text.has_value()) {
      text = tensor.get_string();
    } else {
      tensor.skip();
    }
  }
  return text;
}

TensorBoardValue ParseValue(pbf_reader message) {
  TensorBoardValue value;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case Bytes(kTag):
        value.tag = message.get_string();
        break;
      case tag_and_type(kSimpleValue, pbf_wire_type::fixed32):
        value.scalar = message.get_float();
        break;
      case Bytes(kTensor):
        value.text = ParseText(message.get_message());
        break;
      default:
        message.skip();
    }
  }
  return value;
}

void ParseSummary(pbf_reader summary, std::vector<TensorBoardValue>* values) {
  while (summary.next()) {
    if (summary.tag_and_type() == Bytes(kValue)) {
      values->push_back(ParseValue(summary.get_message()));
    } else {
      summary.skip();
    }
  }
}

TensorBoardEvent ParseEvent(pbf_reader message) {
  TensorBoardEvent event;
  while (message.next()) {
    switch (message.tag_and_type()) {
      case tag_and_type(kWallTime, pbf_wire_type::fixed64):
        event.wall_time = message.get_double();
        break;
      case tag_and_type(kStep, pbf_wire_type::varint):
        event.step = message.get_int64();
        break;
      case Bytes(kFileVersion):
        event.file_version = message.get_string();
        break;
      case Bytes(kSummary):
        ParseSummary(message.get_message(), &event.values);
        break;
      default:
        message.skip();
    }
  }
  return event;
}

}  // namespace

std::string EncodeTensorBoardEvent(const TensorBoardEvent& event) {
  std::string bytes;
  pbf_writer message(bytes);
  message.add_double(kWallTime, event.wall_time);
  if (event.step != 0) message.add_int64(kStep, event.step);
  if (!event.file_version.empty()) message.add_string(kFileVersion, ToUtf8(event.file_version));
  if (event.values.empty()) return bytes;
  pbf_writer summary(message, kSummary);
  for (const TensorBoardValue& value : event.values) AddValue(value, &summary);
  // Writes the summary's length, which would else come after the bytes were returned.
  summary.commit();
  return bytes;
}

absl::StatusOr<TensorBoardEvent> ParseTensorBoardEvent(absl::string_view bytes) {
  try {
    return ParseEvent(pbf_reader(bytes.data(), bytes.size()));
  } catch (const protozero::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("no event of TensorBoard: ", error.what()));
  }
}

}  // namespace strake
