// ByteSource: the bytes of a file or of standard input, decompressed where it is gzip (RFC 1952) or
// zstd (RFC 8878). Memory does not grow with the file. The content decides, not the name.
#ifndef STRAKE_DATA_TEXT_BYTE_SOURCE_H_
#define STRAKE_DATA_TEXT_BYTE_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/fingerprint.h"
#include "data/text/file_content.h"

namespace strake {

class ByteSource {
 public:
  // A pipe is read too; "-" is standard input. While it waits for the bytes of one, here and in
  // Read(), it calls stop_requested() some times a second, and returns Cancelled once that is true.
  // Returns an error, naming the path, for a file that is missing, a directory, or a device.
  static absl::StatusOr<std::unique_ptr<ByteSource>> Open(
      const std::string& path, std::function<bool()> stop_requested = {});
  // The same, but never decompressed.
  static absl::StatusOr<std::unique_ptr<ByteSource>> OpenPlain(const std::string& path);
  // Reads from memory, which must outlive the source. `name` is for messages.
  static absl::StatusOr<std::unique_ptr<ByteSource>> OfBytes(const std::string& name,
                                                             absl::string_view bytes);
  virtual ~ByteSource();

  // Reads `size` bytes, fewer only at the end. Returns DataLoss, naming the file and the place in
  // it, for a stream that is cut off or damaged, and for a file that changed meanwhile.
  virtual absl::StatusOr<size_t> Read(char* bytes, size_t size) = 0;

  // The name in messages: the path, or "standard input".
  const std::string& name() const;
  // The kind of the file as it is, compressed or not.
  const ContentKind& content() const;
  // Bytes of the file that were read, compressed as they are.
  int64_t bytes_read() const;
  // The fingerprint of these bytes: the whole file's once Read() has come to its end.
  Fingerprint fingerprint() const;

 protected:
  class Blocks;
  explicit ByteSource(std::unique_ptr<Blocks> blocks);

  std::unique_ptr<Blocks> blocks_;

 private:
  class Plain;
  class Gzip;
  class Zstd;
  static absl::StatusOr<std::unique_ptr<ByteSource>> Make(std::unique_ptr<Blocks> blocks);
  static absl::StatusOr<std::unique_ptr<Blocks>> OpenBlocks(const std::string& path,
                                                            std::function<bool()> stop_requested);
};

// The fingerprint() of a file read to its end. Cancelled once stop_requested() is true.
absl::StatusOr<Fingerprint> FingerprintOfFile(const std::string& path,
                                              const std::function<bool()>& stop_requested = {});

}  // namespace strake

#endif  // STRAKE_DATA_TEXT_BYTE_SOURCE_H_
