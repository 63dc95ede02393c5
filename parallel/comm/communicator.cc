#include "parallel/comm/communicator.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "glog/logging.h"

namespace strake {
namespace {

using Kind = CollectiveKind;

bool Overlap(const Tensor& x, const Tensor& y) {
  const auto* a = static_cast<const std::byte*>(x.raw());
  const auto* b = static_cast<const std::byte*>(y.raw());
  return x.num_bytes() > 0 && y.num_bytes() > 0 && a < b + y.num_bytes() && b < a + x.num_bytes();
}

CollectiveCall MakeCall(Kind kind, const Tensor& buffer, CallSite site) {
  return {.kind = kind,
          .dtype = buffer.dtype(),
          .device = buffer.device(),
          .count = buffer.num_elements(),
          .site = site};
}

}  // namespace

Communicator::Communicator(int rank, int size, CommunicatorOptions options)
    : rank_(rank), size_(size), options_(std::move(options)), num_sent_(size), num_received_(size) {
  CHECK(size > 0 && rank >= 0 && rank < size) << "[comm] rank " << rank << " of " << size;
}

CudaStream Communicator::cuda_stream() const {
  CHECK(cuda_stream_.has_value()) << "[comm] axis " << axis() << " has no bound CUDA stream";
  return *cuda_stream_;
}

void Communicator::CheckTensor(Kind kind, const Tensor& x) const {
  CHECK(x.defined()) << "[" << CollectiveName(kind) << "] an undefined tensor";
  CHECK(x.raw() != nullptr || x.num_elements() == 0 || dry_run())
      << "[" << CollectiveName(kind) << "] " << x.ToString() << " has no memory";
}

// CHECKs that `piece` has as many elements as the rank's piece of `whole`, and either is that piece
// or does not overlap it.
void Communicator::CheckPiece(Kind kind, const Tensor& piece, const Tensor& whole,
                              const std::vector<int64_t>& counts) const {
  const int64_t begin = std::accumulate(counts.begin(), counts.begin() + rank_, int64_t{0});
  const void* const at =
      static_cast<const std::byte*>(whole.raw()) + begin * DTypeSize(whole.dtype());
  const bool overlap = !dry_run() && Overlap(piece, whole);
  CHECK(piece.dtype() == whole.dtype() && piece.device() == whole.device() &&
        piece.num_elements() == counts[rank_] && (!overlap || piece.raw() == at))
      << "[" << CollectiveName(kind) << "] " << piece.ToString() << " as piece " << rank_ << " of "
      << whole.ToString() << " in pieces of " << JoinCounts(counts)
      << (overlap ? ", which overlap" : "");
}

Pending<Tensor> Communicator::AllReduceSum(Tensor x, CallSite site) {
  return AllReduce(Kind::kAllReduceSum, std::move(x), site);
}

Pending<Tensor> Communicator::AllReduceMax(Tensor x, CallSite site) {
  CHECK(x.dtype() != DType::kC128) << "[all_reduce_max] " << x.ToString() << " has no order";
  return AllReduce(Kind::kAllReduceMax, std::move(x), site);
}

Pending<Tensor> Communicator::AllReduce(Kind kind, Tensor x, CallSite site) {
  CheckTensor(kind, x);
  CollectiveCall call = MakeCall(kind, x, site);
  call.input = call.output = x.raw();
  return Launch(std::move(call), x, x.num_elements());
}

Pending<Tensor> Communicator::ReduceScatterSum(const Tensor& x, Tensor y,
                                               absl::Span<const int64_t> counts, CallSite site) {
  CheckTensor(Kind::kReduceScatterSum, x);
  CheckTensor(Kind::kReduceScatterSum, y);
  CollectiveCall call = MakeCall(Kind::kReduceScatterSum, x, site);
  call.counts = Pieces(call.kind, counts, x);
  CheckPiece(call.kind, y, x, call.counts);
  call.input = x.raw();
  call.output = y.raw();
  return Launch(std::move(call), std::move(y), x.num_elements());
}

Pending<Tensor> Communicator::AllGather(const Tensor& x, Tensor y, absl::Span<const int64_t> counts,
                                        CallSite site) {
  CheckTensor(Kind::kAllGather, x);
  CheckTensor(Kind::kAllGather, y);
  CollectiveCall call = MakeCall(Kind::kAllGather, y, site);
  call.counts = Pieces(call.kind, counts, y);
  CheckPiece(call.kind, x, y, call.counts);
  call.input = x.raw();
  call.output = y.raw();
  return Launch(std::move(call), y, y.num_elements());
}

Pending<Tensor> Communicator::Broadcast(Tensor x, int root, CallSite site) {
  CheckTensor(Kind::kBroadcast, x);
  CheckPeer(Kind::kBroadcast, root, /*may_be_self=*/true);
  CollectiveCall call = MakeCall(Kind::kBroadcast, x, site);
  call.peer = root;
  call.input = call.output = x.raw();
  return Launch(std::move(call), x, x.num_elements());
}

Pending<Tensor> Communicator::AllToAll(const Tensor& x, Tensor y,
                                       absl::Span<const int64_t> send_counts,
                                       absl::Span<const int64_t> recv_counts, CallSite site) {
  CheckTensor(Kind::kAllToAll, x);
  CheckTensor(Kind::kAllToAll, y);
  CollectiveCall call = MakeCall(Kind::kAllToAll, x, site);
  call.counts = Pieces(call.kind, send_counts, x);
  call.recv_counts = Pieces(call.kind, recv_counts, y);
  CHECK(x.dtype() == y.dtype() && x.device() == y.device() && !Overlap(x, y) &&
        call.counts[rank_] == call.recv_counts[rank_])
      << "[all_to_all] x " << x.ToString() << " in pieces of " << JoinCounts(call.counts) << ", y "
      << y.ToString() << " in pieces of " << JoinCounts(call.recv_counts) << ", rank " << rank_
      << (Overlap(x, y) ? ", which overlap" : "");
  call.input = x.raw();
  call.output = y.raw();
  return Launch(std::move(call), std::move(y), x.num_elements());
}

Pending<Tensor> Communicator::Send(const Tensor& x, int to, CallSite site) {
  CheckTensor(Kind::kSend, x);
  CheckPeer(Kind::kSend, to, /*may_be_self=*/false);
  CollectiveCall call = MakeCall(Kind::kSend, x, site);
  call.peer = to;
  call.input = x.raw();
  return Launch(std::move(call), x, x.num_elements());
}

Pending<Tensor> Communicator::Recv(Tensor y, int from, CallSite site) {
  CheckTensor(Kind::kRecv, y);
  CheckPeer(Kind::kRecv, from, /*may_be_self=*/false);
  CollectiveCall call = MakeCall(Kind::kRecv, y, site);
  call.peer = from;
  call.output = y.raw();
  return Launch(std::move(call), y, y.num_elements());
}

absl::Status Communicator::Barrier(CallSite site) {
  return Launch({.kind = Kind::kBarrier, .site = site}, Tensor(), 0).Wait().status();
}

absl::StatusOr<std::unique_ptr<Communicator>> Communicator::Split(int color, int key,
                                                                  std::string axis, CallSite site) {
  CollectiveCall call{.kind = Kind::kSplit, .color = color, .key = key, .site = site};
  call.sequence = NextSequence(call);
  stats_.Add(call.kind, 0);
  CommunicatorOptions options = options_;
  options.axis = std::move(axis);
  const ProfileSpan span(profile_, LabelOf("wait", call, 0));
  STRAKE_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group,
                          SplitGroup(std::move(call), std::move(options)));
  group->cuda_stream_ = cuda_stream_;
  return group;
}

absl::StatusOr<std::unique_ptr<Communicator>> Communicator::SplitInto(absl::Span<const int> members,
                                                                      std::string axis,
                                                                      CallSite site) {
  const int place = PlaceIn(members);
  return Split(members.front(), place, std::move(axis), site);
}

absl::StatusOr<std::unique_ptr<Communicator>> Communicator::SplitNeighbours(int num_ranks,
                                                                            std::string axis,
                                                                            CallSite site) {
  std::vector<int> members(num_ranks);
  std::iota(members.begin(), members.end(), rank_ / num_ranks * num_ranks);
  return SplitInto(members, std::move(axis), site);
}

int Communicator::PlaceIn(absl::Span<const int> members) const {
  const auto place = std::find(members.begin(), members.end(), rank_);
  CHECK(place != members.end()) << "[split] rank " << rank_ << " of " << size_
                                << " gives a group of ranks " << absl::StrJoin(members, ", ");
  return static_cast<int>(place - members.begin());
}

absl::Status Communicator::CheckReplicated(const Tensor& x, absl::string_view name, CallSite site) {
  return options_.check ? CompareReplicated(x, name, site) : absl::OkStatus();
}

absl::Status Communicator::CompareReplicated(const Tensor& x, absl::string_view name,
                                             CallSite site) {
  std::vector<int> all(size_);
  std::iota(all.begin(), all.end(), 0);
  return CompareReplicated(x, name, all, site);
}

absl::Status Communicator::CompareReplicated(const Tensor& x, absl::string_view name,
                                             absl::Span<const int> holders, CallSite site) {
  CheckTensor(Kind::kAllGather, x);
  STRAKE_ASSIGN_OR_RETURN(const HostCopy copy, HostCopy::Of(x));
  const absl::string_view bytes(static_cast<const char*>(copy.tensor().raw()), x.num_bytes());
  const uint64_t hash = StableHash(absl::StrCat(x.ToString(), StableHash(bytes)));
  std::vector<uint64_t> hashes(size_);
  CollectiveCall call{.kind = Kind::kAllGather,
                      .dtype = DType::kI64,
                      .count = size_,
                      .counts = std::vector<int64_t>(size_, 1),
                      .input = &hash,
                      .output = hashes.data(),
                      .site = site};
  call.sequence = NextSequence(call);
  if (const auto wait = StartProfiled(std::move(call), size_)) STRAKE_RETURN_IF_ERROR(wait());
  const int first = holders.front();
  for (const int r : holders) {
    if (hashes[r] == hashes[first]) continue;
    return absl::DataLossError(absl::StrCat(
        "[check_replicated] ", absl::string_view(name), " ", x.ToString(), " differs along axis ",
        axis(), ": its content hash is ", absl::Hex(hashes[first], absl::kZeroPad16), " on rank ",
        first, " and ", absl::Hex(hashes[r], absl::kZeroPad16), " on rank ", r, ", at ", site.file,
        ":", site.line));
  }
  return absl::OkStatus();
}

Pending<Tensor> Communicator::Launch(CollectiveCall call, Tensor result, int64_t payload_elements) {
  CHECK(call.device == Device::kCpu || cuda_stream_.has_value() || dry_run())
      << "[" << CollectiveName(call.kind) << "] " << result.ToString() << " is on a GPU: axis "
      << axis() << " has no bound CUDA stream";
  stats_.Add(call.kind, payload_elements * DTypeSize(call.dtype));
  call.sequence = NextSequence(call);
  if (timings_ != nullptr && call.device == Device::kCuda && size_ > 1) {
    return StartTimed(std::move(call), std::move(result), payload_elements);
  }
  return Pending<Tensor>(std::move(result), StartProfiled(std::move(call), payload_elements));
}

SpanLabel Communicator::LabelOf(const char* category, const CollectiveCall& call,
                                int64_t payload_elements) const {
  return {.category = category,
          .name = CollectiveName(call.kind),
          .index = call.sequence,
          .axis = axis().c_str(),
          .num_ranks = size_,
          .bytes = double(payload_elements) * double(DTypeSize(call.dtype)),
          .file = call.site.file,
          .line = call.site.line};
}

std::function<absl::Status()> Communicator::StartProfiled(CollectiveCall call,
                                                          int64_t payload_elements) {
  if (profile_ == nullptr) return Start(std::move(call));
  const SpanLabel wait_label = LabelOf("wait", call, payload_elements);
  std::function<absl::Status()> wait;
  {
    const ProfileSpan span(profile_, LabelOf("collective", call, payload_elements));
    wait = Start(std::move(call));
  }
  if (wait == nullptr) return nullptr;
  return [this, wait_label, wait = std::move(wait)] {
    const ProfileSpan span(profile_, wait_label);
    return wait();
  };
}

Pending<Tensor> Communicator::StartTimed(CollectiveCall call, Tensor result,
                                         int64_t payload_elements) {
  absl::StatusOr<std::shared_ptr<CollectiveTiming>> timing = CollectiveTiming::Create();
  if (!timing.ok()) return timing.status();
  call.timing = *timing;
  (*timing)->name = CollectiveName(call.kind);
  (*timing)->bytes = double(payload_elements) * double(DTypeSize(call.dtype));
  auto wait = StartProfiled(std::move(call), payload_elements);
  if (wait == nullptr) return result;
  timings_->push_back(*timing);
  return Pending<Tensor>(std::move(result),
                         [wait = std::move(wait), timing = *timing, stream = *cuda_stream_] {
                           absl::Status status = timing->wait_begin.Record(stream);
                           status.Update(wait());
                           status.Update(timing->wait_end.Record(stream));
                           return status;
                         });
}

int64_t Communicator::NextSequence(const CollectiveCall& call) {
  if (call.kind == Kind::kSend) return num_sent_[call.peer]++;
  if (call.kind == Kind::kRecv) return num_received_[call.peer]++;
  return num_collectives_++;
}

void Communicator::CheckPeer(Kind kind, int peer, bool may_be_self) const {
  CHECK(peer >= 0 && peer < size_ && (may_be_self || peer != rank_))
      << "[" << CollectiveName(kind) << "] peer " << peer << " on rank " << rank_ << " of "
      << size_;
}

std::vector<int64_t> Communicator::Pieces(Kind kind, absl::Span<const int64_t> counts,
                                          const Tensor& whole) const {
  std::vector<int64_t> pieces(counts.begin(), counts.end());
  if (pieces.empty()) pieces.assign(size_, whole.num_elements() / size_);
  int64_t sum = 0;
  for (const int64_t count : pieces) {
    CHECK_GE(count, 0) << "[" << CollectiveName(kind) << "] pieces of " << JoinCounts(pieces);
    sum += count;
  }
  CHECK(static_cast<int>(pieces.size()) == size_ && sum == whole.num_elements())
      << "[" << CollectiveName(kind) << "] " << whole.ToString() << " in pieces of "
      << JoinCounts(pieces) << " for " << size_ << " ranks";
  return pieces;
}

}  // namespace strake
