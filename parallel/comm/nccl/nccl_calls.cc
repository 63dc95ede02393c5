#include "parallel/comm/nccl/nccl_calls.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "glog/logging.h"

namespace strake {
namespace {

using Kind = CollectiveKind;

NcclType TypeOf(const CollectiveCall& call) {
  switch (call.dtype) {
    case DType::kF32:
      return NcclType::kFloat32;
    case DType::kBf16:
      return NcclType::kBfloat16;
    case DType::kF64:
    case DType::kC128:  // a pair of them
      return NcclType::kFloat64;
    case DType::kI32:
      return NcclType::kInt32;
    case DType::kI64:
      return NcclType::kInt64;
    case DType::kU16:
      break;
  }
  LOG(FATAL) << "[" << CollectiveName(call.kind) << "] NCCL has no " << DTypeName(call.dtype)
             << ": " << call.ToString();
}

bool EquallyLong(const std::vector<int64_t>& counts) {
  return std::all_of(counts.begin(), counts.end(), [&](int64_t n) { return n == counts[0]; });
}

// One collective, on one stream, with the arguments that its NCCL calls share.
class Caller {
 public:
  Caller(const NcclLibrary& nccl, const CollectiveCall& call, int rank, NcclComm comm,
         CudaStream stream)
      : nccl_(nccl),
        call_(call),
        rank_(rank),
        comm_(comm),
        stream_(stream),
        element_bytes_(DTypeSize(call.dtype)) {}

  NcclResult Call() {
    switch (call_.kind) {
      case Kind::kAllReduceSum:
        return AllReduce(NcclOp::kSum);
      case Kind::kAllReduceMax:
        return AllReduce(NcclOp::kMax);
      case Kind::kReduceScatterSum:
        return EquallyLong(call_.counts) ? ReduceScatter() : ReducePieces();
      case Kind::kAllGather:
        return EquallyLong(call_.counts) ? AllGather() : BroadcastPieces();
      case Kind::kBroadcast:
        return Broadcast(call_.input, call_.output, call_.count, call_.peer);
      case Kind::kAllToAll:
        return Exchange();
      case Kind::kSend:
        return Send(call_.input, call_.count, call_.peer);
      case Kind::kRecv:
        return Recv(call_.output, call_.count, call_.peer);
      case Kind::kBarrier:
      case Kind::kSplit:
        break;
    }
    LOG(FATAL) << "[nccl] " << call_.ToString();
  }

 private:
  // The count for reductions; a complex number counts as two.
  size_t Numbers(int64_t elements) const {
    return elements * (call_.dtype == DType::kC128 ? 2 : 1);
  }
  const std::byte* Input(int64_t element) const {
    return static_cast<const std::byte*>(call_.input) + element * element_bytes_;
  }
  std::byte* Output(int64_t element) const {
    return static_cast<std::byte*>(call_.output) + element * element_bytes_;
  }

  NcclResult AllReduce(NcclOp op) {
    return nccl_.all_reduce(call_.input, call_.output, Numbers(call_.count), TypeOf(call_), op,
                            comm_, stream_);
  }
  NcclResult ReduceScatter() {
    return nccl_.reduce_scatter(call_.input, call_.output, Numbers(call_.counts[rank_]),
                                TypeOf(call_), NcclOp::kSum, comm_, stream_);
  }
  NcclResult ReducePieces() {
    return ForEachPiece([&](int owner, int64_t begin, int64_t count) {
      return nccl_.reduce(Input(begin), owner == rank_ ? call_.output : nullptr, Numbers(count),
                          TypeOf(call_), NcclOp::kSum, owner, comm_, stream_);
    });
  }
  NcclResult AllGather() {
    return nccl_.all_gather(call_.input, call_.output, call_.counts[rank_] * element_bytes_,
                            NcclType::kInt8, comm_, stream_);
  }
  NcclResult BroadcastPieces() {
    return ForEachPiece([&](int owner, int64_t begin, int64_t count) {
      return Broadcast(call_.input, Output(begin), count, owner);
    });
  }
  NcclResult Exchange() {
    int64_t input = 0, output = 0;
    for (int peer = 0; peer < static_cast<int>(call_.counts.size()); ++peer) {
      const int64_t sent = call_.counts[peer], received = call_.recv_counts[peer];
      NcclResult result = sent > 0 ? Send(Input(input), sent, peer) : NcclResult::kSuccess;
      if (Good(result) && received > 0) result = Recv(Output(output), received, peer);
      if (!Good(result)) return result;
      input += sent;
      output += received;
    }
    return NcclResult::kSuccess;
  }

  // Moves bytes, whatever their dtype.
  NcclResult Broadcast(const void* input, void* output, int64_t count, int root) {
    return nccl_.broadcast(input, output, count * element_bytes_, NcclType::kInt8, root, comm_,
                           stream_);
  }
  NcclResult Send(const void* input, int64_t count, int to) {
    return nccl_.send(input, count * element_bytes_, NcclType::kInt8, to, comm_, stream_);
  }
  NcclResult Recv(void* output, int64_t count, int from) {
    return nccl_.recv(output, count * element_bytes_, NcclType::kInt8, from, comm_, stream_);
  }

  // Calls body(owner, begin, count) for the pieces that are not empty.
  template <typename Body>
  NcclResult ForEachPiece(Body&& body) {
    int64_t begin = 0;
    for (int owner = 0; owner < static_cast<int>(call_.counts.size()); ++owner) {
      const int64_t count = call_.counts[owner];
      if (count > 0) {
        if (const NcclResult result = body(owner, begin, count); !Good(result)) return result;
      }
      begin += count;
    }
    return NcclResult::kSuccess;
  }

  static bool Good(NcclResult result) {
    return result == NcclResult::kSuccess || result == NcclResult::kInProgress;
  }

  const NcclLibrary& nccl_;
  const CollectiveCall& call_;
  const int rank_;
  const NcclComm comm_;
  const CudaStream stream_;
  const size_t element_bytes_;
};

}  // namespace

NcclResult CallNccl(const NcclLibrary& nccl, const CollectiveCall& call, int rank, NcclComm comm,
                    CudaStream stream) {
  if (call.count == 0 && call.kind != Kind::kAllToAll) return NcclResult::kSuccess;
  return Caller(nccl, call, rank, comm, stream).Call();
}

}  // namespace strake
