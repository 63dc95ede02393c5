#include "parallel/comm/testing/nccl/nccl_call.h"

#include <cstdint>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/testing/emulated_gpu.h"

namespace strake::testing {
namespace {

// Null if there is no such type.
const char* TypeName(NcclType type) {
  switch (type) {
    case NcclType::kInt8:
      return "ncclInt8";
    case NcclType::kInt32:
      return "ncclInt32";
    case NcclType::kInt64:
      return "ncclInt64";
    case NcclType::kFloat32:
      return "ncclFloat32";
    case NcclType::kFloat64:
      return "ncclFloat64";
    case NcclType::kBfloat16:
      return "ncclBfloat16";
  }
  return nullptr;
}

bool Reduces(NcclFunction function) {
  return function == NcclFunction::kAllReduce || function == NcclFunction::kReduce ||
         function == NcclFunction::kReduceScatter;
}

bool HasRoot(NcclFunction function) {
  return function == NcclFunction::kReduce || function == NcclFunction::kBroadcast;
}

// The bytes that this rank's buffers have; 0 for a buffer that the function does not use.
struct BufferBytes {
  size_t input, output;
};

BufferBytes BytesOf(const NcclCall& call, int rank, int size) {
  const size_t bytes = call.count * NcclTypeBytes(call.type);
  switch (call.function) {
    case NcclFunction::kAllReduce:
      return {bytes, bytes};
    case NcclFunction::kReduce:
      return {bytes, rank == call.peer ? bytes : 0};
    case NcclFunction::kReduceScatter:
      return {bytes * size, bytes};
    case NcclFunction::kAllGather:
      return {bytes, bytes * size};
    case NcclFunction::kBroadcast:
      return {rank == call.peer ? bytes : 0, bytes};
    case NcclFunction::kSend:
      return {bytes, 0};
    case NcclFunction::kRecv:
      return {0, bytes};
  }
  return {0, 0};
}

absl::Status CheckBuffer(const char* name, const void* data, size_t num_bytes, size_t alignment,
                         int device) {
  if (num_bytes == 0) return absl::OkStatus();
  if (reinterpret_cast<uintptr_t>(data) % alignment != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is not aligned to its elements of ", alignment, " bytes"));
  }
  const std::optional<int> where = EmulatedDeviceOf(data, num_bytes);
  if (where == device) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the ", num_bytes, " bytes of ", name, " are not in memory of GPU ", device,
                   where.has_value() ? absl::StrCat(", but of GPU ", *where) : ""));
}

// In place, a gather's input and a reduce-scatter's output are this rank's piece of the other.
absl::Status CheckOverlap(const NcclCall& call, int rank, const BufferBytes& bytes) {
  if (bytes.input == 0 || bytes.output == 0) return absl::OkStatus();
  const char* const input = static_cast<const char*>(call.input);
  const char* const output = static_cast<const char*>(call.output);
  if (input + bytes.input <= output || output + bytes.output <= input) return absl::OkStatus();
  const bool gathers = call.function == NcclFunction::kAllGather;
  const bool scatters = call.function == NcclFunction::kReduceScatter;
  const char* const piece_of_output = output + (gathers ? rank * bytes.input : 0);
  const char* const piece_of_input = input + (scatters ? rank * bytes.output : 0);
  if (piece_of_input == piece_of_output) return absl::OkStatus();
  return absl::InvalidArgumentError("input and output overlap, and not as \"in place\" allows");
}

}  // namespace

const char* NcclFunctionName(NcclFunction function) {
  switch (function) {
    case NcclFunction::kAllReduce:
      return "ncclAllReduce";
    case NcclFunction::kReduce:
      return "ncclReduce";
    case NcclFunction::kReduceScatter:
      return "ncclReduceScatter";
    case NcclFunction::kAllGather:
      return "ncclAllGather";
    case NcclFunction::kBroadcast:
      return "ncclBroadcast";
    case NcclFunction::kSend:
      return "ncclSend";
    case NcclFunction::kRecv:
      return "ncclRecv";
  }
  return "";
}

size_t NcclTypeBytes(NcclType type) {
  switch (type) {
    case NcclType::kInt8:
      return 1;
    case NcclType::kBfloat16:
      return 2;
    case NcclType::kInt32:
    case NcclType::kFloat32:
      return 4;
    case NcclType::kInt64:
    case NcclType::kFloat64:
      break;
  }
  return 8;
}

std::string ToString(const NcclCall& call) {
  std::string text =
      absl::StrCat(NcclFunctionName(call.function), " of ", call.count, " ", TypeName(call.type));
  if (Reduces(call.function)) {
    absl::StrAppend(&text, call.op == NcclOp::kSum ? ", ncclSum" : ", ncclMax");
  }
  if (HasRoot(call.function)) absl::StrAppend(&text, ", root ", call.peer);
  return absl::StrCat(text, call.captured ? ", captured into a graph" : "");
}

bool SameCollective(const NcclCall& a, const NcclCall& b) {
  return a.function == b.function && a.count == b.count && a.type == b.type && a.op == b.op &&
         a.peer == b.peer && a.captured == b.captured;
}

absl::Status CheckNcclCall(const NcclCall& call, int rank, int size, int device) {
  if (TypeName(call.type) == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no type ", static_cast<int>(call.type)));
  }
  if (call.op != NcclOp::kSum && call.op != NcclOp::kMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no operation ", static_cast<int>(call.op)));
  }
  const bool has_peer = HasRoot(call.function) || call.is_message();
  if (has_peer && (call.peer < 0 || call.peer >= size)) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no rank ", call.peer, " among ", size));
  }
  const BufferBytes bytes = BytesOf(call, rank, size);
  const size_t alignment = NcclTypeBytes(call.type);
  STRAKE_RETURN_IF_ERROR(CheckBuffer("the input", call.input, bytes.input, alignment, device));
  STRAKE_RETURN_IF_ERROR(CheckBuffer("the output", call.output, bytes.output, alignment, device));
  return CheckOverlap(call, rank, bytes);
}

}  // namespace strake::testing
