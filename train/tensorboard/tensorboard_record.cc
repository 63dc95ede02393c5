#include "train/tensorboard/tensorboard_record.h"

#include <bit>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/base/crc32c.h"

namespace strake {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr size_t kLengthBytes = sizeof(uint64_t), kChecksumBytes = sizeof(uint32_t);
constexpr size_t kHeaderBytes = kLengthBytes + kChecksumBytes;

template <typename T>
absl::string_view BytesOf(const T& number) {
  return absl::string_view(reinterpret_cast<const char*>(&number), sizeof(T));
}

uint32_t Checksum(absl::string_view data) {
  return std::rotr(ExtendCrc32c(0, data), 15) + 0xa282ead8u;
}

bool HasChecksum(absl::string_view data, absl::string_view at) {
  uint32_t checksum;
  std::memcpy(&checksum, at.data(), sizeof(checksum));
  return checksum == Checksum(data);
}

}  // namespace

void AppendTensorBoardRecord(absl::string_view data, std::string* file) {
  const uint64_t length = data.size();
  const uint32_t of_length = Checksum(BytesOf(length)), of_data = Checksum(data);
  absl::StrAppend(file, BytesOf(length), BytesOf(of_length), data, BytesOf(of_data));
}

absl::StatusOr<absl::string_view> TakeTensorBoardRecord(absl::string_view* file) {
  const absl::Status cut = absl::OutOfRangeError("the file ends within a record");
  if (file->size() < kHeaderBytes) return cut;
  if (!HasChecksum(file->substr(0, kLengthBytes), file->substr(kLengthBytes))) {
    return absl::DataLossError("the checksum of a record's length is wrong");
  }
  uint64_t length;
  std::memcpy(&length, file->data(), sizeof(length));
  const size_t rest = file->size() - kHeaderBytes;
  if (rest < kChecksumBytes || length > rest - kChecksumBytes) return cut;
  const absl::string_view data = file->substr(kHeaderBytes, length);
  const absl::string_view checksum = file->substr(kHeaderBytes + length);
  file->remove_prefix(kHeaderBytes + length + kChecksumBytes);
  if (HasChecksum(data, checksum)) return data;
  return absl::DataLossError("the checksum of a record is wrong");
}

}  // namespace strake
