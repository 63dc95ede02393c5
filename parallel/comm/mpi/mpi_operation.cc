#include "parallel/comm/mpi/mpi_operation.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "parallel/comm/call_matching.h"
#include "parallel/comm/reduce_in_rank_order.h"

namespace strake {
namespace {

using Kind = CollectiveKind;
using Direction = MpiStream::Direction;

// The next segment arrives while one is summed.
constexpr int64_t kRingSegments = 2;

bool IsInline(int64_t num_bytes) { return num_bytes <= kMpiInlineBytes; }

}  // namespace

MpiOperation::MpiOperation(int rank, int size, const std::vector<int>& peers, ChannelTo channel_to)
    : rank_(rank), size_(size), channel_to_(std::move(channel_to)) {
  for (const int peer : peers) peers_.try_emplace(peer);
}

// --- Who sends what to whom. ---

bool MpiOperation::reduces() const {
  return call_->kind == Kind::kAllReduceSum || call_->kind == Kind::kAllReduceMax ||
         call_->kind == Kind::kReduceScatterSum;
}

bool MpiOperation::has_second_phase() const {
  return (call_->kind == Kind::kAllReduceSum || call_->kind == Kind::kAllReduceMax) &&
         !IsInline(Whole(nullptr).size);
}

MpiOperation::Bytes MpiOperation::Elements(const void* buffer, int64_t begin, int64_t end) const {
  const auto element_bytes = static_cast<int64_t>(DTypeSize(call_->dtype));
  auto* const bytes = static_cast<std::byte*>(const_cast<void*>(buffer));
  return {bytes + begin * element_bytes, (end - begin) * element_bytes};
}

MpiOperation::Bytes MpiOperation::Whole(const void* buffer) const {
  return Elements(buffer, 0, call_->count);
}

MpiOperation::Bytes MpiOperation::CutBy(const std::vector<int64_t>& counts, const void* buffer,
                                        int rank) const {
  const int64_t begin = std::accumulate(counts.begin(), counts.begin() + rank, int64_t{0});
  return Elements(buffer, begin, begin + counts[rank]);
}

MpiOperation::Bytes MpiOperation::ReducePiece(int rank) const {
  if (call_->kind == Kind::kReduceScatterSum) return CutBy(call_->counts, call_->input, rank);
  if (!has_second_phase()) return Whole(call_->input);
  return Elements(call_->input, call_->count * rank / size_, call_->count * (rank + 1) / size_);
}

MpiOperation::Bytes MpiOperation::Outgoing(int peer) const {
  switch (call_->kind) {
    case Kind::kAllReduceSum:
    case Kind::kAllReduceMax:
    case Kind::kReduceScatterSum:
      return ReducePiece(peer);
    case Kind::kAllGather:
      return Elements(call_->input, 0, call_->counts[rank_]);
    case Kind::kBroadcast:
      return call_->peer == rank_ ? Whole(call_->input) : Bytes{};
    case Kind::kAllToAll:
      return CutBy(call_->counts, call_->input, peer);
    case Kind::kSend:
      return Whole(call_->input);
    case Kind::kRecv:
    case Kind::kBarrier:
    case Kind::kSplit:
      break;
  }
  return {};
}

MpiOperation::Bytes MpiOperation::Incoming(int peer) const {
  switch (call_->kind) {
    case Kind::kAllReduceSum:
    case Kind::kAllReduceMax:
    case Kind::kReduceScatterSum:
      return {nullptr, ReducePiece(rank_).size};
    case Kind::kAllGather:
      return CutBy(call_->counts, call_->output, peer);
    case Kind::kBroadcast:
      return call_->peer == peer ? Whole(call_->output) : Bytes{};
    case Kind::kAllToAll:
      return CutBy(call_->recv_counts, call_->output, peer);
    case Kind::kRecv:
      return Whole(call_->output);
    case Kind::kSend:
    case Kind::kBarrier:
    case Kind::kSplit:
      break;
  }
  return {};
}

// --- Joining. ---

void MpiOperation::Start(CollectiveCall call, int tag, uint64_t offered_id) {
  call_ = std::move(call);
  tag_ = tag;
  offered_id_ = offered_id;
  CopyOwnPiece();
  if (reduces() && !IsInline(ReducePiece(rank_).size)) AllocateRings();
}

void MpiOperation::CopyOwnPiece() const {
  if (call_->kind != Kind::kAllGather && call_->kind != Kind::kAllToAll) return;
  const Bytes from = Outgoing(rank_), to = Incoming(rank_);
  if (from.size > 0 && from.begin != to.begin) std::memcpy(to.begin, from.begin, from.size);
}

void MpiOperation::AllocateRings() {
  const int64_t segments = (ReducePiece(rank_).size + kMpiSegmentBytes - 1) / kMpiSegmentBytes;
  ring_segments_ = std::min(kRingSegments, segments);
  const int64_t ring_bytes = ring_segments_ * kMpiSegmentBytes;
  rings_ = std::make_unique_for_overwrite<std::byte[]>(peers_.size() * ring_bytes);
  std::byte* ring = rings_.get();
  for (const auto& [rank, peer] : peers_) {
    ring_of_[rank] = ring;
    ring += ring_bytes;
  }
}

ControlMessage MpiOperation::JoinMessage(int peer) const {
  ControlMessage message{.type = ControlMessage::Type::kJoin, .from = rank_};
  message.call = call();
  message.tag = tag_;
  message.offered_id = offered_id_;
  if (const Bytes data = Outgoing(peer); data.size > 0 && IsInline(data.size)) {
    message.payload.assign(data.begin, data.begin + data.size);
  }
  return message;
}

absl::Status MpiOperation::Join(ControlMessage message) {
  const int rank = message.from;
  Peer& peer = peers_.at(rank);
  peer.join = std::move(message);
  return started() && !given_up_ ? Meet(rank, peer) : absl::OkStatus();
}

absl::Status MpiOperation::MeetJoined() {
  for (auto& [rank, peer] : peers_) {
    if (!peer.join) continue;
    if (absl::Status status = Meet(rank, peer); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status MpiOperation::Meet(int rank, Peer& peer) {
  const CollectiveCall& other = peer.join->call;
  if (!CallsAgree(rank_, call(), rank, other)) {
    GiveUp();
    return RanksDisagree(rank_, call(), rank, other);
  }
  if (peer.join->tag < 0 || peer.join->tag >= INT_MAX) {
    GiveUp();
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", rank, " sent the tag ", peer.join->tag, " in ", other.ToString()));
  }
  const Bytes in = Incoming(rank);
  if (IsInline(in.size)) {
    const auto& payload = peer.join->payload;
    if (in.size != static_cast<int64_t>(payload.size())) {
      GiveUp();
      return absl::InvalidArgumentError(absl::StrCat("rank ", rank, " sent ", payload.size(),
                                                     " bytes, and not ", in.size, ", in ",
                                                     other.ToString()));
    }
    if (in.size > 0 && !reduces()) std::memcpy(in.begin, payload.data(), in.size);
  }
  OpenStreams(rank, peer);
  return absl::OkStatus();
}

void MpiOperation::OpenStreams(int rank, Peer& peer) {
  // A stream's tag is its receiver's.
  const int their_tag = static_cast<int>(peer.join->tag);
  if (const Bytes in = Incoming(rank); !IsInline(in.size)) {
    std::byte* const to = reduces() ? ring_of_.at(rank) : in.begin;
    peer.data_in.emplace(Direction::kReceive, channel_to_(rank, tag_), to, in.size, ring_segments_);
    peer.data_in->Allow(reduces() ? std::min(in.size, ring_segments_ * kMpiSegmentBytes) : in.size);
  }
  if (const Bytes out = Outgoing(rank); !IsInline(out.size)) {
    peer.data_out.emplace(Direction::kSend, channel_to_(rank, their_tag), out.begin, out.size);
    peer.data_out->Allow(out.size);
  }
  if (!has_second_phase()) return;
  const Bytes theirs = ReducePiece(rank), mine = ReducePiece(rank_);
  peer.result_in.emplace(Direction::kReceive, channel_to_(rank, tag_ + 1), theirs.begin,
                         theirs.size);
  peer.result_out.emplace(Direction::kSend, channel_to_(rank, their_tag + 1), mine.begin,
                          mine.size);
}

std::vector<int> MpiOperation::missing_ranks() const {
  std::vector<int> missing;
  for (const auto& [rank, peer] : peers_) {
    if (!peer.join) missing.push_back(rank);
  }
  return missing;
}

std::vector<int> MpiOperation::unfinished_ranks() const {
  std::vector<int> unfinished;
  for (const auto& [rank, peer] : peers_) {
    const bool owes = peer.data_in && !peer.data_in->finished();
    const bool lacks = peer.data_out && !peer.data_out->finished();
    if (owes || lacks) unfinished.push_back(rank);
  }
  if (!unfinished.empty()) return unfinished;
  for (const auto& [rank, peer] : peers_) {
    if (peer.result_in && !(peer.result_in->finished() && peer.result_out->finished())) {
      unfinished.push_back(rank);
    }
  }
  return unfinished;
}

// --- Moving data. ---

template <typename F>
void MpiOperation::ForEachStream(F&& body) {
  for (auto& [rank, peer] : peers_) {
    for (auto* stream : {&peer.data_in, &peer.data_out, &peer.result_in, &peer.result_out}) {
      if (*stream) body(**stream);
    }
  }
}

int MpiOperation::Progress(bool& moved) {
  if (given_up_) return MPI_SUCCESS;
  for (auto& [rank, peer] : peers_) {
    if (!peer.result_in) continue;
    // Their result overwrites the data that we have sent to them; ours overwrites the data that we
    // have summed.
    peer.result_in->Allow(peer.data_out ? peer.data_out->done_bytes() : ReducePiece(rank).size);
    peer.result_out->Allow(reduced_);
  }
  int error = MPI_SUCCESS;
  ForEachStream([&](MpiStream& stream) {
    if (error == MPI_SUCCESS) error = stream.Progress(moved);
  });
  if (error == MPI_SUCCESS && reduces()) ReduceNextSegment(moved);
  UpdateDone();
  return error;
}

const void* MpiOperation::Contribution(int rank, int64_t begin) const {
  if (rank == rank_) return ReducePiece(rank_).begin + begin;
  const Peer& peer = peers_.at(rank);
  if (!peer.data_in) return peer.join->payload.data();
  return ring_of_.at(rank) + begin / kMpiSegmentBytes % ring_segments_ * kMpiSegmentBytes;
}

bool MpiOperation::HasContributions(int64_t end) const {
  return std::all_of(peers_.begin(), peers_.end(), [&](const auto& entry) {
    const Peer& peer = entry.second;
    return peer.join && (!peer.data_in || peer.data_in->done_bytes() >= end);
  });
}

void MpiOperation::ReduceNextSegment(bool& moved) {
  const Bytes piece = ReducePiece(rank_);
  const int64_t begin = reduced_, end = std::min(begin + kMpiSegmentBytes, piece.size);
  if (begin == piece.size || !HasContributions(end)) return;
  std::vector<const void*> inputs;
  for (int rank = 0; rank < size_; ++rank) inputs.push_back(Contribution(rank, begin));
  const bool scatters = call_->kind == Kind::kReduceScatterSum;
  void* const output = (scatters ? static_cast<std::byte*>(call_->output) : piece.begin) + begin;
  const auto reduce = call_->kind == Kind::kAllReduceMax ? MaxInRankOrder : SumInRankOrder;
  reduce(call_->dtype, inputs, (end - begin) / static_cast<int64_t>(DTypeSize(call_->dtype)),
         absl::MakeConstSpan(&output, 1));
  reduced_ = end;
  for (auto& [rank, peer] : peers_) {
    // The place of a summed segment is free for the segment after those in the ring.
    if (peer.data_in) {
      peer.data_in->Allow(
          std::min(piece.size, (begin / kMpiSegmentBytes + 1 + ring_segments_) * kMpiSegmentBytes));
    }
  }
  moved = true;
}

void MpiOperation::UpdateDone() {
  if (reduces() && reduced_ < ReducePiece(rank_).size) return;
  bool done = std::all_of(peers_.begin(), peers_.end(),
                          [](const auto& entry) { return entry.second.join.has_value(); });
  ForEachStream([&](MpiStream& stream) { done = done && stream.finished(); });
  done_ = done;
}

int MpiOperation::Drain(bool& moved) {
  int error = MPI_SUCCESS;
  ForEachStream([&](MpiStream& stream) {
    if (error == MPI_SUCCESS) error = stream.Drain(moved);
  });
  return error;
}

void MpiOperation::CancelReceives() {
  ForEachStream([](MpiStream& stream) { stream.CancelReceives(); });
}

bool MpiOperation::idle() const {
  return std::all_of(peers_.begin(), peers_.end(), [](const auto& entry) {
    const Peer& peer = entry.second;
    for (const auto* stream : {&peer.data_in, &peer.data_out, &peer.result_in, &peer.result_out}) {
      if (*stream && !(*stream)->idle()) return false;
    }
    return true;
  });
}

// --- Splitting. ---

std::vector<int> MpiOperation::SplitMembers() const {
  const auto call_of = [&](int rank) -> const CollectiveCall& {
    return rank == rank_ ? call() : peers_.at(rank).join->call;
  };
  std::vector<int> members;
  for (int rank = 0; rank < size_; ++rank) {
    if (call_of(rank).color == call().color) members.push_back(rank);
  }
  std::stable_sort(members.begin(), members.end(),
                   [&](int a, int b) { return call_of(a).key < call_of(b).key; });
  return members;
}

uint64_t MpiOperation::SplitId() const {
  const int first = SplitMembers().front();
  return first == rank_ ? offered_id_ : peers_.at(first).join->offered_id;
}

}  // namespace strake
