#include "data/text/compress.h"

#include <zlib.h>
#include <zstd.h>

#include "glog/logging.h"

namespace strake::testing {

std::string Gzip(const std::string& text) {
  z_stream stream = {};
  constexpr int kGzip = 16, kMemoryLevel = 8;
  CHECK_EQ(deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, MAX_WBITS + kGzip, kMemoryLevel,
                        Z_DEFAULT_STRATEGY),
           Z_OK);
  std::string bytes(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = text.size();
  stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_out = bytes.size();
  CHECK_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  bytes.resize(stream.total_out);
  deflateEnd(&stream);
  return bytes;
}

std::string Zstd(const std::string& text) {
  std::string bytes(ZSTD_compressBound(text.size()), '\0');
  const size_t size =
      ZSTD_compress(bytes.data(), bytes.size(), text.data(), text.size(), ZSTD_CLEVEL_DEFAULT);
  CHECK_EQ(ZSTD_isError(size), 0u);
  bytes.resize(size);
  return bytes;
}

}  // namespace strake::testing
