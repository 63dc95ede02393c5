// Control messages over TCP between processes whose tensors are on GPUs.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_CONNECTION_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/base/file_descriptor.h"
#include "parallel/comm/control_message.h"

namespace strake {

// More than any tensor on the CPU that ranks with GPUs pass to each other, with its call.
inline constexpr int64_t kMaxNcclFrameBytes = int64_t{4} << 30;

// A message's bytes, with their number before them.
std::string EncodeNcclFrame(const ControlMessage& message);

// Cuts a stream of bytes into messages. Memory grows with the bytes that have arrived, not with the
// length that a frame says it has.
class NcclFrameReader {
 public:
  // Appends the messages that are complete now. InvalidArgument for bytes that are no frame or no
  // message, which names the value that is wrong; the stream is then of no use.
  absl::Status Read(absl::string_view bytes, std::vector<ControlMessage>* messages);

 private:
  std::string bytes_;  // of a frame that is not complete
};

// A TCP connection between two processes. Its socket does not block; used under its owner's lock.
class NcclConnection {
 public:
  explicit NcclConnection(FileDescriptor socket);

  int fd() const { return socket_.get(); }
  bool open() const { return open_; }
  bool wants_to_write() const { return open_ && !to_write_.empty(); }

  // Sends it, or as much of it as the system accepts now; Write() sends the rest.
  void Send(const ControlMessage& message);
  void Write();
  // Appends the messages that have arrived completely, of a limited number of bytes at a time. The
  // connection is closed once its other end is. Errors as of NcclFrameReader.
  absl::Status Read(std::vector<ControlMessage>* messages);
  // Reads and writes nothing from now on.
  void Close() { open_ = false; }

 private:
  FileDescriptor socket_;
  bool open_ = true;
  std::string to_write_;
  NcclFrameReader reader_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_CONNECTION_H_
