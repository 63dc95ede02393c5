// This process's use of MPI: initializing and finalizing it, messages to and from other processes,
// and the channels of streams. The caller ensures that only one thread at a time calls it.
#ifndef STRAKE_PARALLEL_COMM_MPI_MPI_TRANSPORT_H_
#define STRAKE_PARALLEL_COMM_MPI_MPI_TRANSPORT_H_

#include <mpi.h>

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "parallel/comm/control_message.h"
#include "parallel/comm/mpi/mpi_stream.h"

namespace strake {

class MpiTransport {
 public:
  // Calls MPI_Init. Returns MPI's error, and an error for a second call in a process.
  static absl::StatusOr<std::unique_ptr<MpiTransport>> Create();

  int rank() const { return rank_; }
  int size() const { return size_; }
  // Whether this machine runs more of the processes than it has cores.
  bool crowded() const { return crowded_; }

  // A tag for streams to this process, and the one after it.
  int NewTags();
  MpiStream::Channel Channel(int process, int tag) const { return {streams_, process, tag}; }

  // Sends without blocking. Messages from one process to another arrive in order.
  void Send(int process, const ControlMessage& message);

  // Receives messages and passes them to `receive`, and continues sending. Returns whether there
  // were any messages. One that cannot be decoded, or that `receive` returns an error for, breaks
  // MPI, with an error that names the process that sent it.
  using Receiver = std::function<absl::Status(ControlMessage)>;
  bool Progress(const Receiver& receive);

  // The error that stopped the use of MPI: nothing is done from then on.
  const absl::Status& broken() const { return broken_; }
  void Break(absl::Status cause);
  // Marks MPI as broken unless `error` is MPI_SUCCESS. `what` names the operation.
  void Check(int error, const char* what);

  bool all_sent() const { return sends_.empty(); }
  // The first call tells the others that this process is about to finalize. Returns whether all
  // are.
  bool AllEnd();
  // MPI_Finalize, once AllEnd().
  void Finalize();

 private:
  struct Outgoing {
    std::string bytes;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  struct Incoming {
    std::vector<std::byte> bytes;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  MpiTransport() = default;
  void Start();
  void Post(Incoming& incoming);
  bool ReceiveNext(const Receiver& receive);
  bool DropSent();

  int rank_ = 0, size_ = 1;
  bool crowded_ = false;
  int next_tag_ = 0, max_tag_ = 0;
  MPI_Comm messages_ = MPI_COMM_NULL, streams_ = MPI_COMM_NULL;
  std::vector<Incoming> incoming_;  // receives, posted in turn
  size_t next_incoming_ = 0;        // completes first
  std::list<Outgoing> sends_;
  MPI_Request end_ = MPI_REQUEST_NULL;
  bool ending_ = false;
  absl::Status broken_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_MPI_MPI_TRANSPORT_H_
