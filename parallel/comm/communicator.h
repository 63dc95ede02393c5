// Communicator: a group of ranks that communicate with each other.
//
// A group is a value that is passed to whoever needs it; there is no global world. To add an
// implementation, derive from this class, implement the three protected functions and Abort(), and
// instantiate the suites of communicator_suite.h. This class checks arguments and keeps sequence
// numbers and counters for all implementations.
//
// Layouts. N ranks; a buffer is a tensor's elements in order, whatever its shape; "piece r" is the
// r-th of N consecutive runs of a buffer. With `counts` (N numbers of elements, the same on every
// rank, zeros allowed) piece r has counts[r] elements; without, all pieces are equally long.
// dtypes: all.
#ifndef STRAKE_PARALLEL_COMM_COMMUNICATOR_H_
#define STRAKE_PARALLEL_COMM_COMMUNICATOR_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/op_profile.h"
#include "core/base/pending.h"
#include "core/cuda/cuda_runtime.h"
#include "core/cuda/stream.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/call_site.h"
#include "parallel/comm/collective_call.h"
#include "parallel/comm/collective_stats.h"
#include "parallel/comm/collective_timing.h"

namespace strake {

struct CommunicatorOptions {
  // What errors and counters call the group. Behind a space may stand which part of the axis the
  // group is, "pp 1->2", which errors and traces tell and counters leave out.
  std::string axis = "world";
  // How long a wait may take before the group fails.
  std::chrono::milliseconds timeout = std::chrono::minutes(10);
  bool check = false;  // CheckReplicated() compares; equal on every rank
};

// One rank's end of a group, used on that rank's thread. Every rank of the group makes the same
// calls in the same order, with matching dtypes and counts. It must wait for each call, in any
// order. Until then it must not write to or free the tensors that it passed, nor read a result.
// After an error of any rank the contents of results are unspecified, and every later call returns
// an error. An error names the collective, its sequence number, the axis, and the rank that caused
// it.
//
// Tensors on a GPU. The collective reads and writes them after all work that was on the bound
// stream at the call, and may overlap with work that is enqueued later. Wait() makes the stream,
// not the host, wait for the collective's end: "until then" above applies to work on that stream. A
// failure of the device itself may show only where the host synchronizes with the stream. A group
// that has a bound stream still takes tensors on the CPU.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  // This rank's position in the group, in [0, size()).
  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& axis() const { return options_.axis; }
  // The axis without what stands behind a space: what counters of several groups add up by.
  std::string stats_axis() const { return axis().substr(0, axis().find(' ')); }
  const CommunicatorOptions& options() const { return options_; }

  // Binds the stream that tensors on a GPU are produced and used on, of the calling thread's
  // device; it must outlive the group. Call it before passing the first of them. Groups that
  // Split() makes afterwards have the same stream.
  void BindCudaStream(CudaStream stream) { cuda_stream_ = stream; }

  // Waits on the host until all work now on `stream` is done. Where ranks wait for each other on
  // their GPUs, the wait ends at the timeout, and as soon as the group has failed. Returns the
  // group's error, or the device's.
  virtual absl::Status WaitForStream(CudaStream stream) { return SynchronizeCudaStream(stream); }
  // Waits likewise until the GPU has reached an event.
  virtual absl::Status WaitForEvent(const CudaEvent& event) { return event.Synchronize(); }

  // Returns true for a group of dry runs, which takes tensors without memory and moves no data.
  virtual bool dry_run() const { return false; }

  // Whether collectives of tensors on a GPU can be part of a CUDA graph.
  virtual bool CanBeCaptured() const { return size_ == 1; }

  // In place: element i of x becomes, with the same bits on every rank, the sum over ranks, in rank
  // order, of their element i (bf16 is summed in f32 and rounded once; integers wrap).
  Pending<Tensor> AllReduceSum(Tensor x, CallSite site = CallSite::Here());

  // In place: element i of x becomes the largest of the ranks' elements i, NaN if one is NaN. Not
  // for c128, which has no order.
  Pending<Tensor> AllReduceMax(Tensor x, CallSite site = CallSite::Here());

  // y on rank r becomes the sum over ranks, in rank order, of piece r of their x. y may be piece r
  // of this rank's x; the other pieces of x keep their contents.
  Pending<Tensor> ReduceScatterSum(const Tensor& x, Tensor y, absl::Span<const int64_t> counts = {},
                                   CallSite site = CallSite::Here());

  // Piece r of y becomes, on every rank, rank r's x, which may be that piece of its own y.
  Pending<Tensor> AllGather(const Tensor& x, Tensor y, absl::Span<const int64_t> counts = {},
                            CallSite site = CallSite::Here());

  // In place: x becomes, on every rank, rank root's x.
  Pending<Tensor> Broadcast(Tensor x, int root, CallSite site = CallSite::Here());

  // Piece s of y on rank d becomes piece d of x on rank s. The pieces of x are cut by `send_counts`
  // and those of y by `recv_counts`, which may differ from rank to rank as long as
  // send_counts[d] on rank s is recv_counts[s] on rank d. y does not overlap x.
  Pending<Tensor> AllToAll(const Tensor& x, Tensor y, absl::Span<const int64_t> send_counts = {},
                           absl::Span<const int64_t> recv_counts = {},
                           CallSite site = CallSite::Here());

  // The n-th Recv(y, s) on rank d receives the n-th Send(x, d) on rank s: y becomes x. A send is
  // complete when it has been received. `to` and `from` are other ranks.
  Pending<Tensor> Send(const Tensor& x, int to, CallSite site = CallSite::Here());
  Pending<Tensor> Recv(Tensor y, int from, CallSite site = CallSite::Here());

  // Starts the messages called so far, which may otherwise start at this rank's next wait. In a
  // group that has messages only it waits for no rank. An error is that of the messages' waits.
  virtual void StartMessages() {}

  // Returns on a rank only after every rank has called it; moves no data.
  absl::Status Barrier(CallSite site = CallSite::Here());

  // Makes a group of the ranks that give the same color, in the order of (key, rank), with this
  // group's options and the name `axis`. Groups made by splitting fail together.
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, std::string axis,
                                                      CallSite site = CallSite::Here());

  // Splits the group into groups that the ranks know: `members` are the ranks of the calling rank's
  // group, in their new order.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> SplitInto(absl::Span<const int> members,
                                                                  std::string axis,
                                                                  CallSite site = CallSite::Here());

  // Splits the group into blocks of `num_ranks` neighbours, which divides its size.
  absl::StatusOr<std::unique_ptr<Communicator>> SplitNeighbours(int num_ranks, std::string axis,
                                                                CallSite site = CallSite::Here());

  // Returns an error unless x holds the same bytes on every rank: detects replicated tensors that
  // have drifted apart. `name` is for the error. Not counted.
  absl::Status CompareReplicated(const Tensor& x, absl::string_view name,
                                 CallSite site = CallSite::Here());
  // The same for the ranks `holders`, which are equal on every rank; x of another is ignored.
  absl::Status CompareReplicated(const Tensor& x, absl::string_view name,
                                 absl::Span<const int> holders, CallSite site = CallSite::Here());
  // The same for all ranks, with options().check; otherwise does nothing.
  absl::Status CheckReplicated(const Tensor& x, absl::string_view name,
                               CallSite site = CallSite::Here());

  // Aborts the group: every rank's waits and later calls return an error with this cause. The first
  // cause is kept.
  virtual void Abort(const absl::Status& cause) = 0;

  // Counts of this rank, since the start or ClearStats().
  const CollectiveStats& stats() const { return stats_; }
  void ClearStats() { stats_.Clear(); }

  // Times, from now on, the collectives of more than one rank with tensors on a GPU, and appends
  // them to `timings`, which must outlive their waits; null, the default, times none. Does not
  // affect groups made by Split() afterwards. Not to be used while a graph is captured.
  void set_timings(std::vector<std::shared_ptr<CollectiveTiming>>* timings) { timings_ = timings; }

  // Reports, from now on, the starts of this group's collectives, as spans of the category
  // "collective", and the waits of the host for them, as "wait"; null, the default, reports none.
  // Does not affect groups made by Split() afterwards, and groups of one rank report none.
  void set_profile(OpProfile* profile) { profile_ = size_ > 1 ? profile : nullptr; }

 protected:
  Communicator(int rank, int size, CommunicatorOptions options);

  // The bound stream; CHECKs that there is one. Start() with a tensor on a GPU always has one.
  CudaStream cuda_stream() const;

  // Starts a collective whose arguments have been checked. Returns the function that Wait() calls;
  // null if the collective is done, or, on a GPU, enqueued on the bound stream. An implementation
  // that does neither records the begin and end of call.timing, if set, on the stream that it uses.
  virtual std::function<absl::Status()> Start(CollectiveCall call) = 0;

  // Split() with its call (color, key) and the new group's options.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> SplitGroup(CollectiveCall call,
                                                                   CommunicatorOptions options) = 0;

  // This rank's place among the members of a group; CHECKs that it is one.
  int PlaceIn(absl::Span<const int> members) const;

 private:
  Pending<Tensor> AllReduce(CollectiveKind kind, Tensor x, CallSite site);
  Pending<Tensor> Launch(CollectiveCall call, Tensor result, int64_t payload_elements);
  std::function<absl::Status()> StartProfiled(CollectiveCall call, int64_t payload_elements);
  Pending<Tensor> StartTimed(CollectiveCall call, Tensor result, int64_t payload_elements);
  SpanLabel LabelOf(const char* category, const CollectiveCall& call,
                    int64_t payload_elements) const;
  int64_t NextSequence(const CollectiveCall& call);
  void CheckTensor(CollectiveKind kind, const Tensor& x) const;
  void CheckPiece(CollectiveKind kind, const Tensor& piece, const Tensor& whole,
                  const std::vector<int64_t>& counts) const;
  void CheckPeer(CollectiveKind kind, int peer, bool may_be_self) const;
  std::vector<int64_t> Pieces(CollectiveKind kind, absl::Span<const int64_t> counts,
                              const Tensor& whole) const;

  const int rank_;
  const int size_;
  const CommunicatorOptions options_;
  std::optional<CudaStream> cuda_stream_;
  CollectiveStats stats_;
  std::vector<std::shared_ptr<CollectiveTiming>>* timings_ = nullptr;
  OpProfile* profile_ = nullptr;
  int64_t num_collectives_ = 0;
  std::vector<int64_t> num_sent_, num_received_;  // by peer
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_COMMUNICATOR_H_
