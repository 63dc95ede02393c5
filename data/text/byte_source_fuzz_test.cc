// Bytes as a file that may be compressed: any content gives an error, or the same bytes whatever
// the sizes in which they are read. Input that expands without end is left after 16 MiB.
#include <cstdint>
#include <string>

#include "data/text/byte_source.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr size_t kMaxBytes = 16 << 20;

// The bytes, then the message of the error if there is one.
std::string ReadAll(absl::string_view content, size_t size) {
  const auto source = ByteSource::OfBytes("fuzz", content);
  CHECK(source.ok()) << source.status();
  std::string all;
  while (all.size() < kMaxBytes) {
    const size_t begin = all.size();
    all.resize(begin + size);
    const auto n = (*source)->Read(&all[begin], size);
    all.resize(begin + n.value_or(0));
    if (!n.ok()) return all + std::string(n.status().message());
    if (*n < size) break;
  }
  return all;
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view content(reinterpret_cast<const char*>(data), size);
  strake::ReadAll(content, 1 << 16);
  const auto source = strake::ByteSource::OfBytes("fuzz", content);
  if ((*source)->content().content == strake::FileContent::kText) {
    CHECK(strake::ReadAll(content, 7) == content);
  }
  return 0;
}
