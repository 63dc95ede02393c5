// GgufMetadata: the keys of a GGUF file, in order, and their values as the file has them.
#ifndef STRAKE_MODELS_GGUF_GGUF_METADATA_H_
#define STRAKE_MODELS_GGUF_GGUF_METADATA_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace strake {

// Appends an integer or floating-point number, little-endian.
template <typename Number>
void AppendNumber(Number number, std::string* out) {
  out->append(reinterpret_cast<const char*>(&number), sizeof(number));
}
// Appends a text behind its length.
void AppendGgufString(absl::string_view text, std::string* out);

// CHECKs that a key is added once.
class GgufMetadata {
 public:
  void AddBool(const std::string& key, bool value);
  void AddUint32(const std::string& key, int64_t value);  // CHECKs that it fits
  void AddFloat32(const std::string& key, double value);
  void AddString(const std::string& key, absl::string_view value);
  void AddStrings(const std::string& key, const std::vector<std::string>& values);
  void AddInt32s(const std::string& key, const std::vector<int32_t>& values);
  void AddFloat32s(const std::string& key, const std::vector<float>& values);

  int64_t num_keys() const { return static_cast<int64_t>(keys_.size()); }
  // The file's bytes for all keys.
  const std::string& bytes() const { return bytes_; }

 private:
  void Begin(const std::string& key, uint32_t type);
  void BeginArray(const std::string& key, uint32_t type, uint64_t count);

  std::set<std::string> keys_;
  std::string bytes_;
};

}  // namespace strake

#endif  // STRAKE_MODELS_GGUF_GGUF_METADATA_H_
