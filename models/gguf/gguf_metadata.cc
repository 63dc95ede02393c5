#include "models/gguf/gguf_metadata.h"

#include <bit>
#include <limits>

#include "glog/logging.h"

namespace strake {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the format's numbers are written as they are");

// The format's numbers of types.
constexpr uint32_t kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9;

}  // namespace

void AppendGgufString(absl::string_view text, std::string* out) {
  AppendNumber<uint64_t>(text.size(), out);
  out->append(text.data(), text.size());
}

void GgufMetadata::Begin(const std::string& key, uint32_t type) {
  CHECK(keys_.insert(key).second) << "[gguf] two values of " << key;
  AppendGgufString(key, &bytes_);
  AppendNumber(type, &bytes_);
}

void GgufMetadata::BeginArray(const std::string& key, uint32_t type, uint64_t count) {
  Begin(key, kArray);
  AppendNumber(type, &bytes_);
  AppendNumber(count, &bytes_);
}

void GgufMetadata::AddBool(const std::string& key, bool value) {
  Begin(key, kBool);
  AppendNumber<uint8_t>(value ? 1 : 0, &bytes_);
}

void GgufMetadata::AddUint32(const std::string& key, int64_t value) {
  CHECK(value >= 0 && value <= std::numeric_limits<uint32_t>::max())
      << "[gguf] " << key << " is " << value;
  Begin(key, kUint32);
  AppendNumber(static_cast<uint32_t>(value), &bytes_);
}

void GgufMetadata::AddFloat32(const std::string& key, double value) {
  Begin(key, kFloat32);
  AppendNumber(static_cast<float>(value), &bytes_);
}

void GgufMetadata::AddString(const std::string& key, absl::string_view value) {
  Begin(key, kString);
  AppendGgufString(value, &bytes_);
}

void GgufMetadata::AddStrings(const std::string& key, const std::vector<std::string>& values) {
  BeginArray(key, kString, values.size());
  for (const std::string& value : values) AppendGgufString(value, &bytes_);
}

void GgufMetadata::AddInt32s(const std::string& key, const std::vector<int32_t>& values) {
  BeginArray(key, kInt32, values.size());
  for (const int32_t value : values) AppendNumber(value, &bytes_);
}

void GgufMetadata::AddFloat32s(const std::string& key, const std::vector<float>& values) {
  BeginArray(key, kFloat32, values.size());
  for (const float value : values) AppendNumber(value, &bytes_);
}

}  // namespace strake
