#include "data/text/token_file_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <limits>
#include <utility>

#include "core/base/durable_file.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr size_t kBufferBytes = 1 << 20;
constexpr off_t kCountOffset = 8;  // of the number of tokens in the header

template <typename T>
void AppendAs(absl::Span<const int32_t> tokens, std::string* bytes) {
  const size_t begin = bytes->size();
  bytes->resize(begin + tokens.size() * sizeof(T));
  char* to = &(*bytes)[begin];
  for (const int32_t token : tokens) {
    const T value = static_cast<T>(token);
    __builtin_memcpy(to, &value, sizeof(value));
    to += sizeof(value);
  }
}

}  // namespace

TokenFileWriter::TokenFileWriter(std::string path, TokenEncoding encoding, FileDescriptor file)
    : path_(std::move(path)), encoding_(encoding), file_(std::move(file)) {}

absl::StatusOr<TokenFileWriter> TokenFileWriter::Create(const std::string& path,
                                                        TokenEncoding encoding) {
  CHECK(encoding != TokenEncoding::kBytes) << "[token_file_writer] " << path;
  const std::string temporary = path + ".tmp";
  STRAKE_RETURN_IF_ERROR(WriteTokenFile(temporary, {}, encoding));  // the header
  FileDescriptor file(open(temporary.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid() || lseek(file.get(), 0, SEEK_END) < 0) return SystemError("open", temporary);
  return TokenFileWriter(path, encoding, std::move(file));
}

absl::Status TokenFileWriter::Append(absl::Span<const int32_t> tokens) {
  num_tokens_ += tokens.size();
  CHECK_LE(num_tokens_, std::numeric_limits<int32_t>::max()) << "[token_file_writer] " << path_;
  if (encoding_ == TokenEncoding::kUint16) {
    AppendAs<uint16_t>(tokens, &buffer_);
  } else {
    AppendAs<uint32_t>(tokens, &buffer_);
  }
  return buffer_.size() < kBufferBytes ? absl::OkStatus() : Flush();
}

absl::Status TokenFileWriter::Flush() {
  const absl::Status status = WriteAll(file_.get(), buffer_, path_ + ".tmp");
  buffer_.clear();
  return status;
}

absl::Status TokenFileWriter::Finish() {
  STRAKE_RETURN_IF_ERROR(Flush());
  const std::string temporary = path_ + ".tmp";
  const auto count = static_cast<int32_t>(num_tokens_);
  if (pwrite(file_.get(), &count, sizeof(count), kCountOffset) != sizeof(count)) {
    return SystemError("write", temporary);
  }
  if (fsync(file_.get()) != 0) return SystemError("flush", temporary);
  if (rename(temporary.c_str(), path_.c_str()) != 0) return SystemError("rename", temporary);
  return SyncPath(std::filesystem::path(path_).parent_path().string());
}

}  // namespace strake
