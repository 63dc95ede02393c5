// ProtobufFields: the fields of a message in protocol buffers' wire format, one after the other.
//
//   ProtobufFields fields(bytes, 0);
//   while (fields.Next()) {
//     if (fields.number() == 1) name = fields.bytes();
//   }
//   STRAKE_RETURN_IF_ERROR(fields.status());
//
// Format: "Encoding", protobuf.dev.
#ifndef STRAKE_DATA_TOKENIZER_FORMATS_PROTOBUF_FIELDS_H_
#define STRAKE_DATA_TOKENIZER_FORMATS_PROTOBUF_FIELDS_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace strake {

class ProtobufFields {
 public:
  // `offset` is that of the message in its file, for messages.
  ProtobufFields(absl::string_view message, size_t offset);

  // False at the end, and where the message is broken.
  bool Next();
  // The first error, which names the offset: a length or a number that goes on after the end, a
  // field without a number, a wire type that is not known.
  absl::Status status() const { return status_; }

  // Of the present field. A value is 0, or empty, where the field is of another wire type.
  uint64_t number() const { return number_; }
  uint64_t integer() const { return integer_; }
  float single() const { return single_; }
  absl::string_view bytes() const { return bytes_; }
  // Where bytes() begins in the file.
  size_t bytes_offset() const { return bytes_offset_; }

 private:
  size_t Position() const { return begin_ + (size_ - rest_.size()); }
  std::optional<uint64_t> TakeVarint();
  std::optional<absl::string_view> Take(uint64_t num_bytes);
  bool TakeValue(uint64_t wire_type);
  bool Fail(absl::string_view reason);

  size_t begin_, size_;
  absl::string_view rest_;
  uint64_t number_ = 0, integer_ = 0;
  float single_ = 0;
  absl::string_view bytes_;
  size_t bytes_offset_ = 0;
  absl::Status status_;
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_FORMATS_PROTOBUF_FIELDS_H_
