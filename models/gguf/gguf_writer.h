// The GGUF file format, version 3: keys and named tensors.
//
//   "GGUF", 3 (u32), number of tensors (u64), number of keys (u64)
//   the keys: name, type, value (gguf_metadata.h)
//   the tensors: name, number of dimensions (u32), dimensions from the innermost on (u64 each),
//                dtype (u32), where the data begins (u64), counted from the first tensor's
//   the tensors' data; each begins at a multiple of 32 bytes
//
// All is little-endian; a text is its length (u64) and its bytes.
// Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
#ifndef STRAKE_MODELS_GGUF_GGUF_WRITER_H_
#define STRAKE_MODELS_GGUF_GGUF_WRITER_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/file_descriptor.h"
#include "core/tensor/tensor.h"
#include "models/gguf/gguf_metadata.h"

namespace strake {

// The format's numbers of dtypes.
enum class GgufDType : uint32_t { kF32 = 0, kF16 = 1, kQ8_0 = 8, kBf16 = 30 };

struct GgufTensorSpec {
  std::string name;
  Shape shape;  // row-major, as everywhere here: [rows, columns]
  GgufDType dtype = GgufDType::kF32;

  int64_t num_bytes() const;
};

// Writes a file tensor by tensor. Equal contents give equal bytes. A writer that is destroyed
// before Finish() leaves an incomplete file.
class GgufWriter {
 public:
  // Writes what comes before the tensors' data, over any file at `path`. CHECKs that names differ
  // and that rows of Q8_0 are multiples of 32.
  static absl::StatusOr<GgufWriter> Create(const std::string& path, const GgufMetadata& metadata,
                                           std::vector<GgufTensorSpec> tensors);

  // Appends the next `count` elements of the tensors, in order, in portions that do not cross a
  // tensor's end, and of Q8_0 are multiples of 32. Rounds them to the tensor's dtype.
  // InvalidArgument, naming the tensor, for a number that the dtype cannot hold.
  absl::Status Append(const float* values, int64_t count);

  // Flushes to the disk and closes. CHECKs that every element was appended.
  absl::Status Finish();

 private:
  GgufWriter(std::string path, FileDescriptor fd, std::vector<GgufTensorSpec> tensors);

  absl::Status Write(absl::string_view bytes);
  void BeginTensor(size_t tensor);
  absl::Status TooLarge(float value) const;

  std::string path_;
  FileDescriptor fd_;
  std::vector<GgufTensorSpec> tensors_;
  size_t tensor_ = 0;          // which is appended to,
  int64_t elements_left_ = 0;  // and what it lacks
};

}  // namespace strake

#endif  // STRAKE_MODELS_GGUF_GGUF_WRITER_H_
