#include "data/text/byte_source.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/file_descriptor.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr size_t kBlockBytes = 1 << 18;
constexpr int kPollMilliseconds = 50;
constexpr uint64_t kFingerprintKey = 0x7465787462797465;  // of bytes of texts

absl::StatusOr<FileDescriptor> OpenForReading(const std::string& path) {
  const auto unusable = [&](const char* what) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
  };
  if (path == "-") return FileDescriptor(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0));
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return SystemError("open", path);
  if (S_ISDIR(info.st_mode)) return unusable("is a directory; name its files");
  if (!S_ISREG(info.st_mode) && !S_ISFIFO(info.st_mode)) {
    return unusable("is neither a file nor a pipe; copy its contents to a file");
  }
  // Without O_NONBLOCK, opening a pipe would wait for its writer.
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return SystemError("open", path);
  return file;
}

bool SameTime(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

// The file as it is, in blocks of kBlockBytes; the last one is shorter, and at the end it is empty.
class ByteSource::Blocks {
 public:
  Blocks(std::string name, absl::string_view bytes)
      : name_(std::move(name)), file_(-1), memory_(bytes) {}
  Blocks(std::string name, FileDescriptor file, std::function<bool()> stop_requested)
      : name_(std::move(name)),
        file_(std::move(file)),
        stop_requested_(std::move(stop_requested)),
        buffer_(kBlockBytes) {}

  absl::Status Start() {
    if (file_.valid() && fstat(file_.get(), &info_) != 0) return SystemError("read", name_);
    STRAKE_RETURN_IF_ERROR(Next());
    content_ = ContentOfBytes(block_);
    return absl::OkStatus();
  }

  // What is left of the current block; callers take from its front.
  absl::string_view& rest() { return rest_; }
  // The place of the first byte of rest() in the file.
  int64_t offset() const { return end_ - static_cast<int64_t>(rest_.size()); }
  // Whether rest() has bytes, after reading the next block if it had none.
  absl::StatusOr<bool> More() {
    if (rest_.empty() && !ended_) STRAKE_RETURN_IF_ERROR(Next());
    return !rest_.empty();
  }

  const std::string& name() const { return name_; }
  const ContentKind& content() const { return content_; }
  int64_t end() const { return end_; }
  const Fingerprint& fingerprint() const { return fingerprint_; }

  absl::Status Damaged(absl::string_view what) const {
    return absl::DataLossError(absl::StrCat(name_, ": ", what));
  }

 private:
  absl::Status Next() {
    if (file_.valid()) {
      STRAKE_RETURN_IF_ERROR(ReadBlock());
    } else {
      block_ = memory_.substr(0, kBlockBytes);
      memory_.remove_prefix(block_.size());
    }
    AddToFingerprint();
    rest_ = block_;
    end_ += block_.size();
    ended_ = block_.empty();
    return ended_ ? CheckUnchanged() : absl::OkStatus();
  }

  absl::Status ReadBlock() {
    size_t size = 0;
    while (size < kBlockBytes) {
      if (!S_ISREG(info_.st_mode)) STRAKE_RETURN_IF_ERROR(WaitForBytes());
      const ssize_t n = read(file_.get(), &buffer_[size], kBlockBytes - size);
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n < 0) return SystemError("read", name_);
      if (n == 0) break;
      size += n;
    }
    block_ = absl::string_view(buffer_.data(), size);
    return absl::OkStatus();
  }

  // Until a read does not wait.
  absl::Status WaitForBytes() const {
    while (!stop_requested_ || !stop_requested_()) {
      pollfd bytes = {.fd = file_.get(), .events = POLLIN, .revents = 0};
      const int n = poll(&bytes, 1, kPollMilliseconds);
      if (n > 0) return absl::OkStatus();
      if (n < 0 && errno != EINTR) return SystemError("wait for", name_);
    }
    return absl::CancelledError(absl::StrCat(name_, ": stopped while it was read"));
  }

  void AddToFingerprint() {
    const FingerprintPlace place = {.key = kFingerprintKey,
                                    .row = end_ / static_cast<int64_t>(kBlockBytes)};
    const size_t words = block_.size() / 4;
    fingerprint_ += FingerprintOfRow(place, block_.data(), words);
    if (block_.size() % 4 == 0) return;
    uint32_t last = 0;
    std::memcpy(&last, block_.data() + words * 4, block_.size() % 4);
    FingerprintPlace place_of_last = place;
    place_of_last.column = words;
    fingerprint_ += FingerprintOfRow(place_of_last, &last, 1);
  }

  absl::Status CheckUnchanged() const {
    struct stat now;
    if (!file_.valid() || !S_ISREG(info_.st_mode)) return absl::OkStatus();
    if (fstat(file_.get(), &now) != 0) return SystemError("read", name_);
    if (now.st_size == info_.st_size && SameTime(now.st_mtim, info_.st_mtim)) {
      return absl::OkStatus();
    }
    return Damaged("changed while it was read; read it again");
  }

  const std::string name_;
  const FileDescriptor file_;
  const std::function<bool()> stop_requested_;
  struct stat info_ = {};
  absl::string_view memory_;  // not read yet
  std::vector<char> buffer_;
  absl::string_view block_, rest_;
  int64_t end_ = 0;  // of the block in the file
  bool ended_ = false;
  ContentKind content_;
  Fingerprint fingerprint_;
};

ByteSource::ByteSource(std::unique_ptr<Blocks> blocks) : blocks_(std::move(blocks)) {}

ByteSource::~ByteSource() = default;

const std::string& ByteSource::name() const { return blocks_->name(); }
const ContentKind& ByteSource::content() const { return blocks_->content(); }
int64_t ByteSource::bytes_read() const { return blocks_->end(); }
Fingerprint ByteSource::fingerprint() const { return blocks_->fingerprint(); }

class ByteSource::Plain : public ByteSource {
 public:
  explicit Plain(std::unique_ptr<Blocks> blocks) : ByteSource(std::move(blocks)) {}

  absl::StatusOr<size_t> Read(char* bytes, size_t size) override {
    size_t done = 0;
    while (done < size) {
      STRAKE_ASSIGN_OR_RETURN(const bool more, blocks_->More());
      if (!more) break;
      const size_t n = std::min(size - done, blocks_->rest().size());
      std::memcpy(bytes + done, blocks_->rest().data(), n);
      blocks_->rest().remove_prefix(n);
      done += n;
    }
    return done;
  }
};

// Members, one after the other, as `cat a.gz b.gz` makes them. NULs may follow: tapes and archives
// fill files up to a whole block.
class ByteSource::Gzip : public ByteSource {
 public:
  explicit Gzip(std::unique_ptr<Blocks> blocks) : ByteSource(std::move(blocks)) {
    constexpr int kGzipOnly = 16;
    CHECK_EQ(inflateInit2(&stream_, MAX_WBITS + kGzipOnly), Z_OK) << "[byte_source] zlib";
  }
  ~Gzip() override { inflateEnd(&stream_); }

  absl::StatusOr<size_t> Read(char* bytes, size_t size) override {
    size_t done = 0;
    while (done < size) {
      STRAKE_ASSIGN_OR_RETURN(const bool more, blocks_->More());
      if (!in_member_) {
        STRAKE_ASSIGN_OR_RETURN(in_member_, BeginMember());
        if (!in_member_) break;
      }
      if (!more) {
        return blocks_->Damaged(absl::StrCat("the gzip stream is cut off at byte ",
                                             blocks_->offset(), "; copy or download it again"));
      }
      STRAKE_ASSIGN_OR_RETURN(const size_t n, Inflate(bytes + done, size - done));
      done += n;
    }
    return done;
  }

 private:
  absl::StatusOr<size_t> Inflate(char* bytes, size_t size) {
    absl::string_view& input = blocks_->rest();
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
    stream_.avail_in = input.size();
    stream_.next_out = reinterpret_cast<Bytef*>(bytes);
    stream_.avail_out = std::min<size_t>(size, 1 << 30);
    const size_t room = stream_.avail_out;
    const int result = inflate(&stream_, Z_NO_FLUSH);
    input.remove_prefix(input.size() - stream_.avail_in);
    in_member_ = result != Z_STREAM_END;
    if (result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR) {
      return room - stream_.avail_out;
    }
    if (result == Z_MEM_ERROR) return absl::ResourceExhaustedError("zlib: out of memory");
    return blocks_->Damaged(absl::StrCat(
        "the gzip stream is damaged before byte ", blocks_->offset(), " (",
        stream_.msg != nullptr ? stream_.msg : "unknown", "); copy or download it again"));
  }

  // False at the end of the file.
  absl::StatusOr<bool> BeginMember() {
    while (true) {
      STRAKE_ASSIGN_OR_RETURN(const bool more, blocks_->More());
      if (!more) return false;
      absl::string_view& input = blocks_->rest();
      if (input[0] == '\x1f') break;
      input.remove_prefix(std::min(input.find_first_not_of('\0'), input.size()));
      if (input.empty()) continue;
      return blocks_->Damaged(absl::StrCat("other data follows the gzip stream, from byte ",
                                           blocks_->offset(), " on; copy or download it again"));
    }
    CHECK_EQ(inflateReset(&stream_), Z_OK) << "[byte_source] zlib";
    return true;
  }

  z_stream stream_ = {};
  bool in_member_ = false;
};

class ByteSource::Zstd : public ByteSource {
 public:
  explicit Zstd(std::unique_ptr<Blocks> blocks)
      : ByteSource(std::move(blocks)), stream_(ZSTD_createDStream()) {
    CHECK(stream_ != nullptr) << "[byte_source] zstd";
  }
  ~Zstd() override { ZSTD_freeDStream(stream_); }

  absl::StatusOr<size_t> Read(char* bytes, size_t size) override {
    ZSTD_outBuffer output = {bytes, size, 0};
    while (output.pos < size) {
      STRAKE_ASSIGN_OR_RETURN(const bool more, blocks_->More());
      if (!more && frame_ended_) break;
      const size_t before = output.pos;
      STRAKE_RETURN_IF_ERROR(Decompress(&output));
      if (!more && !frame_ended_ && output.pos == before) {
        return blocks_->Damaged(absl::StrCat("the zstd stream is cut off at byte ",
                                             blocks_->offset(), "; copy or download it again"));
      }
    }
    return output.pos;
  }

 private:
  absl::Status Decompress(ZSTD_outBuffer* output) {
    absl::string_view& block = blocks_->rest();
    ZSTD_inBuffer input = {block.data(), block.size(), 0};
    const size_t result = ZSTD_decompressStream(stream_, output, &input);
    block.remove_prefix(input.pos);
    if (ZSTD_isError(result) == 0) {
      frame_ended_ = result == 0;
      return absl::OkStatus();
    }
    if (ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge) {
      return blocks_->Damaged(
          "was compressed with a window of more than 128 MiB (zstd --long); compress it without");
    }
    return blocks_->Damaged(absl::StrCat("the zstd stream is damaged near byte ", blocks_->offset(),
                                         " (", ZSTD_getErrorName(result),
                                         "); copy or download it again"));
  }

  ZSTD_DStream* const stream_;
  bool frame_ended_ = true;
};

absl::StatusOr<std::unique_ptr<ByteSource>> ByteSource::Make(std::unique_ptr<Blocks> blocks) {
  std::unique_ptr<ByteSource> source;
  switch (blocks->content().content) {
    case FileContent::kGzip:
      source = std::make_unique<Gzip>(std::move(blocks));
      break;
    case FileContent::kZstd:
      source = std::make_unique<Zstd>(std::move(blocks));
      break;
    default:
      source = std::make_unique<Plain>(std::move(blocks));
  }
  return source;
}

absl::StatusOr<std::unique_ptr<ByteSource::Blocks>> ByteSource::OpenBlocks(
    const std::string& path, std::function<bool()> stop_requested) {
  STRAKE_ASSIGN_OR_RETURN(FileDescriptor file, OpenForReading(path));
  const std::string name = path == "-" ? "standard input" : path;
  if (!file.valid()) return SystemError("read", name);
  auto blocks = std::make_unique<Blocks>(name, std::move(file), std::move(stop_requested));
  STRAKE_RETURN_IF_ERROR(blocks->Start());
  return blocks;
}

absl::StatusOr<std::unique_ptr<ByteSource>> ByteSource::Open(const std::string& path,
                                                             std::function<bool()> stop_requested) {
  STRAKE_ASSIGN_OR_RETURN(auto blocks, OpenBlocks(path, std::move(stop_requested)));
  return Make(std::move(blocks));
}

absl::StatusOr<std::unique_ptr<ByteSource>> ByteSource::OpenPlain(const std::string& path) {
  STRAKE_ASSIGN_OR_RETURN(auto blocks, OpenBlocks(path, /*stop_requested=*/{}));
  return std::make_unique<Plain>(std::move(blocks));
}

absl::StatusOr<std::unique_ptr<ByteSource>> ByteSource::OfBytes(const std::string& name,
                                                                absl::string_view bytes) {
  auto blocks = std::make_unique<Blocks>(name, bytes);
  STRAKE_RETURN_IF_ERROR(blocks->Start());
  return Make(std::move(blocks));
}

absl::StatusOr<Fingerprint> FingerprintOfFile(const std::string& path,
                                              const std::function<bool()>& stop_requested) {
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> source, ByteSource::OpenPlain(path));
  std::vector<char> buffer(kBlockBytes);
  while (!stop_requested || !stop_requested()) {
    STRAKE_ASSIGN_OR_RETURN(const size_t n, source->Read(buffer.data(), buffer.size()));
    if (n < buffer.size()) return source->fingerprint();
  }
  return absl::CancelledError(absl::StrCat(path, ": stopped while it was read"));
}

}  // namespace strake
