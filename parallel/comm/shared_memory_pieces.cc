#include "parallel/comm/shared_memory_pieces.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>

#include "absl/types/span.h"
#include "glog/logging.h"
#include "parallel/comm/reduce_in_rank_order.h"

namespace strake {
namespace {

using Kind = CollectiveKind;

// Large enough that taking a piece costs nothing beside it, small enough to share and to give up.
constexpr int64_t kPieceBytes = 128 << 10;

std::byte* At(const void* buffer, DType dtype, int64_t index) {
  return static_cast<std::byte*>(const_cast<void*>(buffer)) + index * DTypeSize(dtype);
}

void CopyUnlessSame(const void* from, void* to, int64_t bytes) {
  if (bytes > 0 && from != to) std::memcpy(to, from, bytes);
}

int64_t PieceElements(DType dtype) { return kPieceBytes / DTypeSize(dtype); }

void Reduce(const JoinedCalls& calls, int64_t begin, int64_t count) {
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
  const DType dtype = calls[0]->dtype;
  for (const auto& call : calls) {
    inputs.push_back(At(call->input, dtype, begin));
    outputs.push_back(At(call->output, dtype, begin));
  }
  const auto reduce = calls[0]->kind == Kind::kAllReduceSum ? SumInRankOrder : MaxInRankOrder;
  reduce(dtype, inputs, count, outputs);
}

void ReduceTo(const JoinedCalls& calls, int rank, int64_t begin, int64_t begin_in_piece,
              int64_t count) {
  std::vector<const void*> inputs;
  const DType dtype = calls[0]->dtype;
  for (const auto& call : calls) inputs.push_back(At(call->input, dtype, begin));
  void* const output = At(calls[rank]->output, dtype, begin_in_piece);
  SumInRankOrder(dtype, inputs, count, absl::MakeConstSpan(&output, 1));
}

void GatherFrom(const JoinedCalls& calls, int rank, int64_t begin, int64_t begin_in_piece,
                int64_t count) {
  const DType dtype = calls[0]->dtype;
  const void* const from = At(calls[rank]->input, dtype, begin_in_piece);
  for (const auto& call : calls) {
    CopyUnlessSame(from, At(call->output, dtype, begin), count * DTypeSize(dtype));
  }
}

// Calls body(rank, begin, begin within the rank's part, count) for the parts, cut by the call's
// counts, that elements [begin, end) lie in.
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

void CopyFromSlot(const JoinedCalls& calls, int source, int64_t begin, int64_t count) {
  const DType dtype = calls[0]->dtype;
  for (int slot = 0; slot < static_cast<int>(calls.size()); ++slot) {
    if (slot == source) continue;
    CopyUnlessSame(At(calls[source]->input, dtype, begin), At(calls[slot]->output, dtype, begin),
                   count * DTypeSize(dtype));
  }
}

int64_t OffsetOf(const std::vector<int64_t>& counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank, int64_t{0});
}

void Exchange(const JoinedCalls& calls, int from, int to) {
  const CollectiveCall& source = *calls[from];
  const CollectiveCall& target = *calls[to];
  CopyUnlessSame(At(source.input, source.dtype, OffsetOf(source.counts, to)),
                 At(target.output, source.dtype, OffsetOf(target.recv_counts, from)),
                 source.counts[to] * DTypeSize(source.dtype));
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
  const int64_t begin = piece * PieceElements(call.dtype);
  const int64_t end = std::min(call.count, begin + PieceElements(call.dtype));
  switch (call.kind) {
    case Kind::kAllReduceSum:
    case Kind::kAllReduceMax:
      return Reduce(calls, begin, end - begin);
    case Kind::kReduceScatterSum:
      return ForEachPart(call, begin, end, [&](int rank, int64_t at, int64_t in_part, int64_t n) {
        ReduceTo(calls, rank, at, in_part, n);
      });
    case Kind::kAllGather:
      return ForEachPart(call, begin, end, [&](int rank, int64_t at, int64_t in_part, int64_t n) {
        GatherFrom(calls, rank, at, in_part, n);
      });
    case Kind::kBroadcast:
      return CopyFromSlot(calls, call.peer, begin, end - begin);
    case Kind::kSend:  // slot 0 is the sender
      return CopyFromSlot(calls, 0, begin, end - begin);
    case Kind::kAllToAll: {
      const int size = static_cast<int>(calls.size());
      return Exchange(calls, static_cast<int>(piece / size), static_cast<int>(piece % size));
    }
    case Kind::kRecv:
    case Kind::kBarrier:
    case Kind::kSplit:
      LOG(FATAL) << "[" << CollectiveName(call.kind) << "] has no pieces";
  }
}

}  // namespace strake
