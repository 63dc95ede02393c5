#include "parallel/comm/nccl/nccl_message.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/types/span.h"

namespace strake {
namespace {

struct FrameHeader {
  uint64_t axis_bytes, content_bytes;
  NcclMessage::Type type;
};

std::string Encode(const NcclMessage& message) {
  const std::string content = EncodeMpiMessage(message.content);
  FrameHeader header;
  std::memset(&header, 0, sizeof(header));  // its padding is sent too
  header.axis_bytes = message.axis.size();
  header.content_bytes = content.size();
  header.type = message.type;
  std::string frame(reinterpret_cast<const char*>(&header), sizeof(header));
  return frame.append(message.axis).append(content);
}

// Decodes a message at bytes[*at...]; false if it is not complete.
bool Decode(const std::string& bytes, size_t* at, NcclMessage* message) {
  FrameHeader header;
  if (bytes.size() - *at < sizeof(header)) return false;
  std::memcpy(&header, bytes.data() + *at, sizeof(header));
  const size_t size = sizeof(header) + header.axis_bytes + header.content_bytes;
  if (bytes.size() - *at < size) return false;
  const char* const axis = bytes.data() + *at + sizeof(header);
  const auto* const content = reinterpret_cast<const std::byte*>(axis + header.axis_bytes);
  message->type = header.type;
  message->axis.assign(axis, header.axis_bytes);
  message->content = DecodeMpiMessage(absl::MakeConstSpan(content, header.content_bytes));
  *at += size;
  return true;
}

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

NcclConnection::NcclConnection(FileDescriptor socket) : socket_(std::move(socket)) {
  fcntl(fd(), F_SETFL, fcntl(fd(), F_GETFL) | O_NONBLOCK);
  WatchTheOtherEnd(fd());
}

void NcclConnection::Send(const NcclMessage& message) {
  if (!open_) return;
  to_write_ += Encode(message);
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

std::vector<NcclMessage> NcclConnection::Read() {
  constexpr size_t kChunkBytes = 64 << 10;
  for (;;) {
    const size_t size = read_.size();
    read_.resize(size + kChunkBytes);
    const ssize_t bytes = recv(fd(), read_.data() + size, kChunkBytes, 0);
    read_.resize(size + (bytes > 0 ? bytes : 0));
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes == 0 || (bytes < 0 && errno != EAGAIN)) open_ = false;
    if (bytes <= 0) break;
  }
  std::vector<NcclMessage> messages;
  size_t at = 0;
  NcclMessage message;
  while (Decode(read_, &at, &message)) messages.push_back(std::move(message));
  read_.erase(0, at);
  return messages;
}

}  // namespace strake
