// Messages over TCP between processes whose tensors are on GPUs; GPU data goes through NCCL.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_MESSAGE_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_MESSAGE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/file_descriptor.h"
#include "parallel/comm/mpi/mpi_message.h"

namespace strake {

// The meaning of `content.from` and `content.tag` depends on the type; `content.type` is unused.
struct NcclMessage {
  enum class Type : uint8_t {
    kJoin,    // to rank 0: a rank has started content.call; tag: its ticket, to be given back
    kResult,  // the end of ticket `tag`, with the call's result
    kFail,    // all groups have failed with content.failure
    kAsk,     // process `from`, whose wait timed out, asks every process for its progress
    kAnswer,  // to process `tag`: progress of `from` (NcclProgress); offered_id: whether it waits
    kLeave,   // process `from` ends
  };
  Type type = Type::kJoin;
  std::string axis{};  // kJoin: the group's
  MpiMessage content{};
};

// How many collectives of a group, or messages of a pair of its ranks, a process has started.
struct NcclProgress {
  uint64_t group = 0;
  int sender = -1, receiver = -1;  // ranks of the group; -1 for collectives
  int64_t num_started = 0;
};

// A TCP connection between two processes. Its socket does not block; used under its owner's lock.
class NcclConnection {
 public:
  explicit NcclConnection(FileDescriptor socket);

  int fd() const { return socket_.get(); }
  bool open() const { return open_; }
  bool wants_to_write() const { return open_ && !to_write_.empty(); }

  // Sends it, or as much of it as the system accepts now; Write() sends the rest.
  void Send(const NcclMessage& message);
  void Write();
  // The messages that have arrived completely. The connection is closed once its other end is.
  std::vector<NcclMessage> Read();

 private:
  FileDescriptor socket_;
  bool open_ = true;
  std::string to_write_, read_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_MESSAGE_H_
