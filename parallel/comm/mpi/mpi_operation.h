// One rank's side of one collective or message over MPI: its transfers and its progress.
//
// Every rank tells every peer which call it makes (ControlMessage::kJoin). At most kMpiInlineBytes
// of data come with that message. More data flows in streams, straight into the receiver's buffer,
// as soon as both sides know that their calls match. A reduction cuts the elements into one piece
// per rank: each rank receives its piece from all ranks, sums in rank order, and for an all-reduce
// sends the result to all ranks, segment by segment. A small all-reduce takes one step: every rank
// sums all elements.
#ifndef STRAKE_PARALLEL_COMM_MPI_MPI_OPERATION_H_
#define STRAKE_PARALLEL_COMM_MPI_MPI_OPERATION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "parallel/comm/collective_call.h"
#include "parallel/comm/control_message.h"
#include "parallel/comm/mpi/mpi_stream.h"

namespace strake {

// Together with the rest of a message, below the 4 KiB that Open MPI sends in one piece.
inline constexpr int64_t kMpiInlineBytes = 3072;

// `call` is the call of `rank` of `size`, set by Start(). Guarded by the engine's lock, like the
// whole object.
class MpiOperation {
 public:
  // Makes the stream's channel to a rank of the group.
  using ChannelTo = std::function<MpiStream::Channel(int rank, int tag)>;

  // `peers` are the other ranks that take part in the operation.
  MpiOperation(int rank, int size, const std::vector<int>& peers, ChannelTo channel_to);

  // Sets this rank's call. Streams to it have tags `tag` and `tag` + 1.
  void Start(CollectiveCall call, int tag, uint64_t offered_id);
  bool started() const { return call_.has_value(); }
  const CollectiveCall& call() const { return *call_; }

  // The message for `peer`, without the group's id; after Start().
  ControlMessage JoinMessage(int peer) const;

  // Takes a peer's message, before or after Start(). Returns an error when the calls of the two
  // ranks do not match. MeetJoined() checks the messages that came before Start().
  absl::Status Join(ControlMessage message);
  absl::Status MeetJoined();
  bool joined(int peer) const { return peers_.at(peer).join.has_value(); }
  bool takes_part(int rank) const { return peers_.count(rank) > 0; }
  std::vector<int> missing_ranks() const;     // have not joined
  std::vector<int> unfinished_ranks() const;  // have joined, and still owe or lack data

  // Moves data and reduces, without blocking. Sets `moved` to true if anything moved. Returns MPI's
  // error code.
  int Progress(bool& moved);
  bool done() const { return done_; }

  // For a failed group, whose buffers are given back: after GiveUp() no new transfers start, and
  // Drain() completes those in flight.
  void GiveUp() { given_up_ = true; }
  int Drain(bool& moved);
  void CancelReceives();
  bool idle() const;  // MPI uses none of the buffers

  // The result of a split: its ranks of this rank's color in the order of (key, rank), and the new
  // group's id.
  std::vector<int> SplitMembers() const;
  uint64_t SplitId() const;

 private:
  struct Peer {
    std::optional<ControlMessage> join;
    std::optional<MpiStream> data_in, data_out, result_in, result_out;
  };
  struct Bytes {
    std::byte* begin;
    int64_t size;
  };

  bool reduces() const;
  bool has_second_phase() const;
  Bytes Elements(const void* buffer, int64_t begin, int64_t end) const;
  Bytes Whole(const void* buffer) const;
  Bytes CutBy(const std::vector<int64_t>& counts, const void* buffer, int rank) const;
  Bytes ReducePiece(int rank) const;  // of the input
  Bytes Outgoing(int peer) const;
  Bytes Incoming(int peer) const;  // without a place in a reduction
  void CopyOwnPiece() const;
  void AllocateRings();
  absl::Status Meet(int rank, Peer& peer);
  void OpenStreams(int rank, Peer& peer);
  const void* Contribution(int rank, int64_t begin) const;
  bool HasContributions(int64_t end) const;
  void ReduceNextSegment(bool& moved);
  void UpdateDone();
  template <typename F>
  void ForEachStream(F&& body);

  const int rank_, size_;
  const ChannelTo channel_to_;
  std::optional<CollectiveCall> call_;
  int tag_ = 0;
  uint64_t offered_id_ = 0;
  std::map<int, Peer> peers_;  // by rank
  std::unique_ptr<std::byte[]> rings_;
  std::map<int, std::byte*> ring_of_;  // by rank
  int64_t ring_segments_ = 0;
  int64_t reduced_ = 0;  // bytes of this rank's piece
  bool done_ = false, given_up_ = false;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_MPI_MPI_OPERATION_H_
