#include "data/tokenizer/formats/protobuf_fields.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace strake {

ProtobufFields::ProtobufFields(absl::string_view message, size_t offset)
    : begin_(offset), size_(message.size()), rest_(message) {}

bool ProtobufFields::Fail(absl::string_view reason) {
  if (status_.ok()) {
    status_ = absl::InvalidArgumentError(absl::StrCat("byte ", Position(), ": ", reason));
  }
  return false;
}

// Seven bits a byte, the low ones first; the highest bit says that there is more.
std::optional<uint64_t> ProtobufFields::TakeVarint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

std::optional<absl::string_view> ProtobufFields::Take(uint64_t num_bytes) {
  if (num_bytes > rest_.size()) return std::nullopt;
  const absl::string_view taken = rest_.substr(0, num_bytes);
  rest_.remove_prefix(num_bytes);
  return taken;
}

bool ProtobufFields::TakeValue(uint64_t wire_type) {
  constexpr uint64_t kVarint = 0, kEightBytes = 1, kLengthAndBytes = 2, kFourBytes = 5;
  if (wire_type == kEightBytes) return Take(8) || Fail("the message ends within a number");
  if (wire_type == kFourBytes) {
    const auto bytes = Take(4);
    if (!bytes) return Fail("the message ends within a number");
    std::memcpy(&single_, bytes->data(), 4);  // little endian, as are Strake's machines
    return true;
  }
  if (wire_type != kVarint && wire_type != kLengthAndBytes) {
    return Fail(absl::StrCat("a field has the wire type ", wire_type, ", which is not known"));
  }
  const auto value = TakeVarint();
  if (!value) return Fail("a number does not end");
  if (wire_type == kVarint) {
    integer_ = *value;
    return true;
  }
  bytes_offset_ = Position();
  const auto bytes = Take(*value);
  if (!bytes) {
    return Fail(absl::StrCat("a field has ", *value, " bytes, and the message ", rest_.size()));
  }
  bytes_ = *bytes;
  return true;
}

bool ProtobufFields::Next() {
  if (rest_.empty() || !status_.ok()) return false;
  number_ = integer_ = 0;
  single_ = 0;
  bytes_ = {};
  const auto tag = TakeVarint();
  if (!tag) return Fail("a number does not end");
  number_ = *tag >> 3;
  if (number_ == 0) return Fail("a field has the number 0");
  return TakeValue(*tag & 7);
}

}  // namespace strake
