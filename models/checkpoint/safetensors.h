// The safetensors file format: named tensors behind a JSON header.
//
//   8 bytes      N, the header's length, little-endian
//   N bytes      {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
//                 "__metadata__": {"KEY": "TEXT", ...}}, padded with spaces
//   the rest     the tensors' data, row-major and little-endian; offsets count from its start, and
//                the tensors cover it without gaps
//
// Source: https://github.com/huggingface/safetensors, section "Format".
#ifndef STRAKE_MODELS_CHECKPOINT_SAFETENSORS_H_
#define STRAKE_MODELS_CHECKPOINT_SAFETENSORS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/file_descriptor.h"
#include "core/base/file_mapping.h"
#include "core/base/file_part.h"
#include "core/tensor/tensor.h"

namespace strake {

enum class SafetensorsDType : uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kI16,
  kU16,
  kF16,
  kBf16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64
};

// "BOOL", "F32", and so on, as in the header.
const char* SafetensorsDTypeName(SafetensorsDType dtype);

struct SafetensorsEntry {
  std::string name;
  SafetensorsDType dtype;
  Shape shape;
  int64_t begin;  // bytes [begin, end) of the file
  int64_t end;
};

// Parses the entries of a whole file's bytes, in the order of their data; reads the header alone.
// InvalidArgument for any header that violates the format, naming the tensor and the values; each
// message begins with `source`, the file's name. Headers over 100 MB are rejected.
absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensors(absl::string_view file,
                                                               absl::string_view source);

// A file that is mapped into memory for reading. Movable; reading is thread-safe.
class SafetensorsFile {
 public:
  // Returns an error for a file that cannot be read or that ParseSafetensors() rejects.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return path_; }
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  // Null when there is no such tensor.
  const SafetensorsEntry* Find(absl::string_view name) const;

  // Reads out = elements [first, first + count) of one of entries(), as f32, to which F64 is
  // rounded. The entry must be F64, F32, F16 or BF16 (InvalidArgument otherwise); with a count of
  // 0, only this is checked. The pages that were read are given back to the system.
  absl::Status ReadF32(const SafetensorsEntry& entry, int64_t first, int64_t count,
                       float* out) const;

  // Reads likewise out [num_runs, run]: out[i, j] = element first + i * stride + j, for run <=
  // stride.
  absl::Status ReadF32Runs(const SafetensorsEntry& entry, int64_t first, int64_t run,
                           int64_t stride, int64_t num_runs, float* out) const;

 private:
  std::string path_;
  FileMapping data_;
  std::vector<SafetensorsEntry> entries_;
  std::vector<int32_t> by_name_;  // indices of entries_, sorted by name
};

// The error of a finite number that F16 cannot hold.
absl::Status TooLargeForF16(const std::string& path, absl::string_view tensor, float value);

struct SafetensorsSpec {
  std::string name;
  Shape shape;
};

// Writes a file of tensors of one dtype, F32, F16 or BF16, piece by piece; the same tensors give
// the same bytes, in whatever order they are appended. A writer destroyed before Finish() leaves an
// incomplete file.
class SafetensorsWriter {
 public:
  // Writes the header, with the tensors in the given order, over any file at `path`. Returns an
  // error, naming path and reason, when that fails. CHECKs that names differ.
  static absl::StatusOr<SafetensorsWriter> Create(const std::string& path,
                                                  const std::vector<SafetensorsSpec>& tensors,
                                                  SafetensorsDType dtype = SafetensorsDType::kF32);

  // Appends the next `count` elements of the tensors laid end to end, in any portions, rounded to
  // the file's dtype. Returns an error, naming path and reason, when the disk is full or fails; and
  // InvalidArgument, naming the tensor, for a number that is too large for F16. CHECKs that no more
  // elements are appended than were announced.
  absl::Status Append(const float* values, int64_t count);

  // Makes the next Append() begin at the first element of tensor `index` of those given to
  // Create().
  absl::Status Seek(int index);

  // Flushes to the disk and closes; call it once. CHECKs that every element was appended.
  absl::Status Finish();

  // The checksums of the header and of each tensor, computed as they were written. Each tensor must
  // have been appended from its beginning.
  const std::vector<FilePart>& parts() const { return parts_; }

 private:
  void BeginPart(size_t part);
  void AddToChecksums(absl::string_view bytes);
  void StartFlush(int64_t num_written);

  SafetensorsWriter(std::string path, FileDescriptor fd, SafetensorsDType dtype)
      : path_(std::move(path)), fd_(std::move(fd)), dtype_(dtype) {}

  std::string path_;
  FileDescriptor fd_;
  SafetensorsDType dtype_;
  std::vector<int64_t> tensor_begin_;  // bytes of the file
  std::vector<FilePart> parts_;        // the header, then the tensors
  size_t part_ = 1;                    // the tensor that is appended to,
  int64_t part_bytes_left_ = 0;        // and what it lacks
  int64_t elements_left_ = 0;
  int64_t unflushed_bytes_ = 0;
};

}  // namespace strake

#endif  // STRAKE_MODELS_CHECKPOINT_SAFETENSORS_H_
