#include "models/gguf/gguf_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "core/base/dtype.h"
#include "core/base/half.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"
#include "glog/logging.h"
#include "models/gguf/q8_0.h"

namespace strake {
namespace {

constexpr char kMagic[] = "GGUF";
constexpr uint32_t kVersion = 3;
constexpr int64_t kAlignment = 32;

int64_t Padded(int64_t num_bytes) { return (num_bytes + kAlignment - 1) / kAlignment * kAlignment; }

const char* Name(GgufDType dtype) {
  switch (dtype) {
    case GgufDType::kF32:
      return "F32";
    case GgufDType::kF16:
      return "F16";
    case GgufDType::kQ8_0:
      return "Q8_0";
    case GgufDType::kBf16:
      return "BF16";
  }
  LOG(FATAL) << "[gguf] unknown dtype " << static_cast<int>(dtype);
}

std::string HeaderText(const GgufMetadata& metadata, const std::vector<GgufTensorSpec>& tensors) {
  std::string header = kMagic;
  AppendNumber(kVersion, &header);
  AppendNumber<uint64_t>(tensors.size(), &header);
  AppendNumber<uint64_t>(metadata.num_keys(), &header);
  header += metadata.bytes();
  uint64_t begin = 0;
  for (const GgufTensorSpec& tensor : tensors) {
    AppendGgufString(tensor.name, &header);
    AppendNumber(static_cast<uint32_t>(tensor.shape.size()), &header);
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) {
      AppendNumber(static_cast<uint64_t>(*size), &header);
    }
    AppendNumber(static_cast<uint32_t>(tensor.dtype), &header);
    AppendNumber(begin, &header);
    begin += Padded(tensor.num_bytes());
  }
  header.resize(Padded(static_cast<int64_t>(header.size())));
  return header;
}

}  // namespace

int64_t GgufTensorSpec::num_bytes() const {
  const int64_t num_elements = NumElements(shape);
  switch (dtype) {
    case GgufDType::kF32:
      return num_elements * 4;
    case GgufDType::kQ8_0:
      return num_elements / kQ8BlockElements * kQ8BlockBytes;
    default:
      return num_elements * 2;
  }
}

GgufWriter::GgufWriter(std::string path, FileDescriptor fd, std::vector<GgufTensorSpec> tensors)
    : path_(std::move(path)), fd_(std::move(fd)), tensors_(std::move(tensors)) {
  BeginTensor(0);
}

absl::StatusOr<GgufWriter> GgufWriter::Create(const std::string& path, const GgufMetadata& metadata,
                                              std::vector<GgufTensorSpec> tensors) {
  std::set<absl::string_view> names;
  for (const GgufTensorSpec& tensor : tensors) {
    CHECK(names.insert(tensor.name).second) << "[gguf] two tensors " << tensor.name;
    CHECK(tensor.dtype != GgufDType::kQ8_0 || tensor.shape.back() % kQ8BlockElements == 0)
        << "[gguf] " << tensor.name << " " << ShapeString(tensor.shape) << " as Q8_0";
  }
  FileDescriptor fd(
      open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!fd.valid()) return SystemError("create", path);
  const std::string header = HeaderText(metadata, tensors);
  GgufWriter writer(path, std::move(fd), std::move(tensors));
  STRAKE_RETURN_IF_ERROR(writer.Write(header));
  return writer;
}

absl::Status GgufWriter::Write(absl::string_view bytes) {
  return WriteAll(fd_.get(), bytes, path_);
}

void GgufWriter::BeginTensor(size_t tensor) {
  tensor_ = tensor;
  elements_left_ = tensor < tensors_.size() ? NumElements(tensors_[tensor].shape) : 0;
}

absl::Status GgufWriter::TooLarge(float value) const {
  return absl::InvalidArgumentError(
      absl::StrCat(path_, ": tensor \"", tensors_[tensor_].name, "\" has ", value, ", which ",
                   Name(tensors_[tensor_].dtype), " cannot hold; take BF16 or F32"));
}

absl::Status GgufWriter::Append(const float* values, int64_t count) {
  CHECK(tensor_ < tensors_.size() && count >= 0 && count <= elements_left_)
      << "[gguf] " << count << " elements for tensor " << tensor_ << " of " << path_
      << ", which lacks " << elements_left_;
  const GgufTensorSpec& tensor = tensors_[tensor_];
  if (tensor.dtype == GgufDType::kF32) {
    STRAKE_RETURN_IF_ERROR(
        Write({reinterpret_cast<const char*>(values), static_cast<size_t>(count) * sizeof(float)}));
  } else if (tensor.dtype == GgufDType::kQ8_0) {
    CHECK_EQ(count % kQ8BlockElements, 0) << "[gguf] elements of " << tensor.name;
    std::string blocks(count / kQ8BlockElements * kQ8BlockBytes, '\0');
    const int64_t bad = ToQ8(values, count / kQ8BlockElements, blocks.data());
    if (bad < count) return TooLarge(values[bad]);
    STRAKE_RETURN_IF_ERROR(Write(blocks));
  } else {
    std::vector<uint16_t> rounded(count);
    if (tensor.dtype == GgufDType::kF16) {
      const int64_t bad = ToHalf(values, count, rounded.data());
      if (bad < count) return TooLarge(values[bad]);
    } else {
      for (int64_t i = 0; i < count; ++i) rounded[i] = Bf16(values[i]).bits;
    }
    STRAKE_RETURN_IF_ERROR(Write({reinterpret_cast<const char*>(rounded.data()),
                                  static_cast<size_t>(count) * sizeof(uint16_t)}));
  }
  elements_left_ -= count;
  if (elements_left_ > 0) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(Write(std::string(Padded(tensor.num_bytes()) - tensor.num_bytes(), '\0')));
  BeginTensor(tensor_ + 1);
  return absl::OkStatus();
}

absl::Status GgufWriter::Finish() {
  CHECK_EQ(tensor_, tensors_.size()) << "[gguf] tensors appended to " << path_;
  if (fsync(fd_.get()) != 0) return SystemError("flush", path_);
  fd_ = FileDescriptor(-1);
  return absl::OkStatus();
}

}  // namespace strake
