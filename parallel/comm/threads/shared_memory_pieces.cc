#include "parallel/comm/threads/shared_memory_pieces.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>

#include "absl/types/span.h"
#include "core/cuda/cuda_runtime.h"
#include "core/ops/reduce_ranks/reduce_ranks_cuda.h"
#include "glog/logging.h"
#include "parallel/comm/reduce_in_rank_order.h"

namespace strake {
namespace {

using Kind = CollectiveKind;

// Large enough that the overhead of a piece is small, small enough to share work and to stop early.
constexpr int64_t kPieceBytes = 128 << 10;

std::byte* At(const void* buffer, DType dtype, int64_t index) {
  return static_cast<std::byte*>(const_cast<void*>(buffer)) + index * DTypeSize(dtype);
}

int64_t PieceElements(DType dtype) { return kPieceBytes / DTypeSize(dtype); }

// Accesses the tensors' memory.
class Mover {
 public:
  virtual ~Mover() = default;
  // Copies at least one byte between different places.
  virtual void Copy(const void* from, void* to, int64_t bytes) = 0;
  // Reduces like kAllReduceSum or kAllReduceMax.
  virtual void Reduce(Kind kind, DType dtype, absl::Span<const void* const> inputs, int64_t count,
                      absl::Span<void* const> outputs) = 0;
};

class CpuMover : public Mover {
 public:
  void Copy(const void* from, void* to, int64_t bytes) override { std::memcpy(to, from, bytes); }
  void Reduce(Kind kind, DType dtype, absl::Span<const void* const> inputs, int64_t count,
              absl::Span<void* const> outputs) override {
    const auto reduce = kind == Kind::kAllReduceMax ? MaxInRankOrder : SumInRankOrder;
    reduce(dtype, inputs, count, outputs);
  }
};

class CudaMover : public Mover {
 public:
  explicit CudaMover(CudaStream stream) : stream_(stream) {}

  void Copy(const void* from, void* to, int64_t bytes) override {
    status_.Update(CopyOnDevice(to, from, bytes, stream_));
  }
  void Reduce(Kind kind, DType dtype, absl::Span<const void* const> inputs, int64_t count,
              absl::Span<void* const> outputs) override {
    status_.Update(cuda::ReduceRanks(
        stream_, {.reduction = kind == Kind::kAllReduceMax ? cuda::RankReduction::kMax
                                                           : cuda::RankReduction::kSum,
                  .dtype = dtype,
                  .inputs = inputs,
                  .count = count,
                  .outputs = outputs}));
  }

  // The first error.
  const absl::Status& status() const { return status_; }

 private:
  const CudaStream stream_;
  absl::Status status_;
};

void CopyUnlessSame(Mover& mover, const void* from, void* to, int64_t bytes) {
  if (bytes > 0 && from != to) mover.Copy(from, to, bytes);
}

void Reduce(Mover& mover, const JoinedCalls& calls, int64_t begin, int64_t count) {
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
  const DType dtype = calls[0]->dtype;
  for (const auto& call : calls) {
    inputs.push_back(At(call->input, dtype, begin));
    outputs.push_back(At(call->output, dtype, begin));
  }
  mover.Reduce(calls[0]->kind, dtype, inputs, count, outputs);
}

void ReduceTo(Mover& mover, const JoinedCalls& calls, int rank, int64_t begin,
              int64_t begin_in_piece, int64_t count) {
  std::vector<const void*> inputs;
  const DType dtype = calls[0]->dtype;
  for (const auto& call : calls) inputs.push_back(At(call->input, dtype, begin));
  void* const output = At(calls[rank]->output, dtype, begin_in_piece);
  mover.Reduce(Kind::kAllReduceSum, dtype, inputs, count, absl::MakeConstSpan(&output, 1));
}

void GatherFrom(Mover& mover, const JoinedCalls& calls, int rank, int64_t begin,
                int64_t begin_in_piece, int64_t count) {
  const DType dtype = calls[0]->dtype;
  const void* const from = At(calls[rank]->input, dtype, begin_in_piece);
  for (const auto& call : calls) {
    CopyUnlessSame(mover, from, At(call->output, dtype, begin), count * DTypeSize(dtype));
  }
}

// Calls body(rank, begin, begin within the rank's part, count) for the parts, cut by the call's
// counts, that overlap elements [begin, end).
template <typename Body>
void ForEachPart(const CollectiveCall& call, int64_t begin, int64_t end, Body&& body) {
  int64_t part_begin = 0;
  for (int rank = 0; rank < static_cast<int>(call.counts.size()); ++rank) {
    const int64_t part_end = part_begin + call.counts[rank];
    const int64_t from = std::max(begin, part_begin), to = std::min(end, part_end);
    if (from < to) body(rank, from, from - part_begin, to - from);
    part_begin = part_end;
  }
}

void CopyFromSlot(Mover& mover, const JoinedCalls& calls, int source, int64_t begin,
                  int64_t count) {
  const DType dtype = calls[0]->dtype;
  for (int slot = 0; slot < static_cast<int>(calls.size()); ++slot) {
    if (slot == source) continue;
    CopyUnlessSame(mover, At(calls[source]->input, dtype, begin),
                   At(calls[slot]->output, dtype, begin), count * DTypeSize(dtype));
  }
}

int64_t OffsetOf(const std::vector<int64_t>& counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank, int64_t{0});
}

void Exchange(Mover& mover, const JoinedCalls& calls, int from, int to) {
  const CollectiveCall& source = *calls[from];
  const CollectiveCall& target = *calls[to];
  CopyUnlessSame(mover, At(source.input, source.dtype, OffsetOf(source.counts, to)),
                 At(target.output, source.dtype, OffsetOf(target.recv_counts, from)),
                 source.counts[to] * DTypeSize(source.dtype));
}

// Executes elements [begin, end) of the call's `count`; not for an all-to-all.
void MoveElements(Mover& mover, const JoinedCalls& calls, int64_t begin, int64_t end) {
  const CollectiveCall& call = *calls[0];
  switch (call.kind) {
    case Kind::kAllReduceSum:
    case Kind::kAllReduceMax:
      return Reduce(mover, calls, begin, end - begin);
    case Kind::kReduceScatterSum:
      return ForEachPart(call, begin, end, [&](int rank, int64_t at, int64_t in_part, int64_t n) {
        ReduceTo(mover, calls, rank, at, in_part, n);
      });
    case Kind::kAllGather:
      return ForEachPart(call, begin, end, [&](int rank, int64_t at, int64_t in_part, int64_t n) {
        GatherFrom(mover, calls, rank, at, in_part, n);
      });
    case Kind::kBroadcast:
      return CopyFromSlot(mover, calls, call.peer, begin, end - begin);
    case Kind::kSend:  // slot 0 is the sender
      return CopyFromSlot(mover, calls, 0, begin, end - begin);
    case Kind::kAllToAll:
    case Kind::kRecv:
    case Kind::kBarrier:
    case Kind::kSplit:
      LOG(FATAL) << "[" << CollectiveName(call.kind) << "] moves no elements in order";
  }
}

// One pair of ranks in an all-to-all.
void ExchangePair(Mover& mover, const JoinedCalls& calls, int64_t pair) {
  const int64_t size = static_cast<int64_t>(calls.size());
  Exchange(mover, calls, static_cast<int>(pair / size), static_cast<int>(pair % size));
}

}  // namespace

int64_t NumPieces(const JoinedCalls& calls) {
  const CollectiveCall& call = *calls[0];
  if (call.kind == Kind::kAllToAll) return static_cast<int64_t>(calls.size() * calls.size());
  const int64_t elements = PieceElements(call.dtype);
  return (call.count + elements - 1) / elements;
}

void DoPiece(const JoinedCalls& calls, int64_t piece) {
  const CollectiveCall& call = *calls[0];
  CpuMover mover;
  if (call.kind == Kind::kAllToAll) return ExchangePair(mover, calls, piece);
  const int64_t begin = piece * PieceElements(call.dtype);
  MoveElements(mover, calls, begin, std::min(call.count, begin + PieceElements(call.dtype)));
}

absl::Status Enqueue(const JoinedCalls& calls, CudaStream stream) {
  const CollectiveCall& call = *calls[0];
  CudaMover mover(stream);
  if (call.kind == Kind::kAllToAll) {
    for (int64_t pair = 0; pair < NumPieces(calls); ++pair) ExchangePair(mover, calls, pair);
  } else {
    MoveElements(mover, calls, 0, call.count);
  }
  return mover.status();
}

}  // namespace strake
