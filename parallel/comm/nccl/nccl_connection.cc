#include "parallel/comm/nccl/nccl_connection.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

// Read in one turn; a connection that always has more must not keep its reader from the others.
constexpr size_t kChunkBytes = 64 << 10;
constexpr int kChunksPerTurn = 64;

// Detects a machine that is gone without notice after about half a minute.
void WatchTheOtherEnd(int fd) {
  const int on = 1, idle_seconds = 10, interval_seconds = 5, probes = 3, lost_milliseconds = 30000;
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_seconds, sizeof(idle_seconds));
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_seconds, sizeof(interval_seconds));
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
  setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &lost_milliseconds, sizeof(lost_milliseconds));
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

}  // namespace

std::string EncodeNcclFrame(const ControlMessage& message) {
  const std::string content = EncodeControlMessage(message);
  const int64_t num_bytes = static_cast<int64_t>(content.size());
  std::string frame(reinterpret_cast<const char*>(&num_bytes), sizeof(num_bytes));
  return frame.append(content);
}

absl::Status NcclFrameReader::Read(absl::string_view bytes, std::vector<ControlMessage>* messages) {
  bytes_.append(bytes.data(), bytes.size());
  size_t at = 0;
  int64_t num_bytes = 0;
  while (bytes_.size() - at >= sizeof(num_bytes)) {
    std::memcpy(&num_bytes, bytes_.data() + at, sizeof(num_bytes));
    if (num_bytes < 0 || num_bytes > kMaxNcclFrameBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "it sent a frame of ", num_bytes, " bytes, and the largest has ", kMaxNcclFrameBytes));
    }
    if (bytes_.size() - at - sizeof(num_bytes) < static_cast<size_t>(num_bytes)) break;
    const auto* const content =
        reinterpret_cast<const std::byte*>(bytes_.data() + at + sizeof(num_bytes));
    STRAKE_ASSIGN_OR_RETURN(ControlMessage message,
                            DecodeControlMessage(absl::MakeConstSpan(content, num_bytes)));
    messages->push_back(std::move(message));
    at += sizeof(num_bytes) + num_bytes;
  }
  bytes_.erase(0, at);
  return absl::OkStatus();
}

NcclConnection::NcclConnection(FileDescriptor socket) : socket_(std::move(socket)) {
  fcntl(fd(), F_SETFL, fcntl(fd(), F_GETFL) | O_NONBLOCK);
  WatchTheOtherEnd(fd());
}

void NcclConnection::Send(const ControlMessage& message) {
  if (!open_) return;
  to_write_ += EncodeNcclFrame(message);
  Write();
}

void NcclConnection::Write() {
  size_t written = 0;
  while (open_ && written < to_write_.size()) {
    const ssize_t bytes =
        send(fd(), to_write_.data() + written, to_write_.size() - written, MSG_NOSIGNAL);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0 && errno == EAGAIN) break;
    // Data that has arrived can still be read, and tells the reason.
    if (bytes < 0) written = to_write_.size();
    if (bytes > 0) written += bytes;
  }
  to_write_.erase(0, written);
}

absl::Status NcclConnection::Read(std::vector<ControlMessage>* messages) {
  std::string chunk(kChunkBytes, '\0');
  for (int i = 0; i < kChunksPerTurn; ++i) {
    const ssize_t bytes = recv(fd(), chunk.data(), chunk.size(), 0);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes == 0 || (bytes < 0 && errno != EAGAIN)) open_ = false;
    if (bytes <= 0) break;
    STRAKE_RETURN_IF_ERROR(reader_.Read(absl::string_view(chunk.data(), bytes), messages));
  }
  return absl::OkStatus();
}

}  // namespace strake
