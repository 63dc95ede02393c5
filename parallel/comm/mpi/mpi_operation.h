// One rank's side of one collective or message over MPI: what goes where, and how far it is.
//
// Every rank tells every peer what it calls (MpiMessage::kJoin). Data of at most kMpiInlineBytes
// come with it; more flow in streams as soon as both sides know that their calls fit, straight into
// the receiver's buffer. A reduction cuts the elements into a piece per rank: each rank receives
// its piece from everybody, sums in rank order, and for an all-reduce sends the result to
// everybody, segment by segment. An all-reduce of few bytes is one step: everybody sums all.
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
#include "parallel/comm/mpi/mpi_message.h"
#include "parallel/comm/mpi/mpi_stream.h"

namespace strake {

// With the rest of a message, within the 4 KiB that Open MPI passes on in one piece.
inline constexpr int64_t kMpiInlineBytes = 3072;

// `call` is what `rank` of `size` calls; set by Start(). Locked by the engine, like all it is in.
class MpiOperation {
 public:
  // Makes the stream's channel to a rank of the group.
  using ChannelTo = std::function<MpiStream::Channel(int rank, int tag)>;

  // `peers` are the other ranks that take part.
  MpiOperation(int rank, int size, const std::vector<int>& peers, ChannelTo channel_to);

  // This rank's call. Streams to it have tags `tag` and `tag` + 1.
  void Start(CollectiveCall call, int tag, uint64_t offered_id);
  bool started() const { return call_.has_value(); }
  const CollectiveCall& call() const { return *call_; }

  // What to tell `peer`, less the group's id; after Start().
  MpiMessage JoinMessage(int peer) const;

  // `message` is what its rank told us; before or after Start(). An error when the calls of the two
  // ranks do not fit. MeetJoined() is for those that came before Start().
  absl::Status Join(MpiMessage message);
  absl::Status MeetJoined();
  bool joined(int peer) const { return peers_.at(peer).join.has_value(); }
  bool takes_part(int rank) const { return peers_.count(rank) > 0; }
  std::vector<int> missing_ranks() const;     // have not joined
  std::vector<int> unfinished_ranks() const;  // have joined, and owe or lack data

  // Moves data and reduces, without blocking. `moved` becomes true if anything did. Returns MPI's
  // error code.
  int Progress(bool& moved);
  bool done() const { return done_; }

  // For a failed group, whose buffers are given back: after GiveUp() nothing new starts, and
  // Drain() moves what is under way.
  void GiveUp() { given_up_ = true; }
  int Drain(bool& moved);
  void CancelReceives();
  bool idle() const;  // MPI knows none of the buffers

  // After a split: its ranks of this rank's color in the order of (key, rank), and the new group's
  // id.
  std::vector<int> SplitMembers() const;
  uint64_t SplitId() const;

 private:
  struct Peer {
    std::optional<MpiMessage> join;
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
