// Records of TensorBoard's event files: bytes between checksums.
//
//   u64 number of bytes, u32 checksum of these 8, the bytes, u32 their checksum; little-endian
//
// A checksum is the CRC-32C, turned right by 15 bits, plus 0xa282ead8.
//
// Source: the documentation of TensorFlow's TFRecord format.
#ifndef STRAKE_TRAIN_TENSORBOARD_TENSORBOARD_RECORD_H_
#define STRAKE_TRAIN_TENSORBOARD_TENSORBOARD_RECORD_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

// Appends a record that holds `data`.
void AppendTensorBoardRecord(absl::string_view data, std::string* file);

// Takes the first record off `file`, which is not empty, and returns its data.
//
// OutOfRange where the file ends within the record, as a writer that was killed leaves it: `file`
// stays as it is. DataLoss where a checksum is wrong: the record is off `file` if the data's is,
// else `file` stays as it is, since nothing tells where the next record begins.
absl::StatusOr<absl::string_view> TakeTensorBoardRecord(absl::string_view* file);

}  // namespace strake

#endif  // STRAKE_TRAIN_TENSORBOARD_TENSORBOARD_RECORD_H_
