#include "parallel/comm/nccl/nccl_hub.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace strake {
namespace {

using Kind = CollectiveKind;

int64_t Sum(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

NcclHub::Delivery Failure(absl::Status cause) {
  return {-1, {.type = NcclMessage::Type::kFail, .content = {.failure = std::move(cause)}}};
}

std::string Called(int rank, const CollectiveCall& call) {
  return absl::StrCat("rank ", rank, " called ", call.ToString());
}

}  // namespace

int64_t InputBytes(const CollectiveCall& call, int rank) {
  const int64_t size = DTypeSize(call.dtype);
  switch (call.kind) {
    case Kind::kAllGather:
      return call.counts[rank] * size;
    case Kind::kBroadcast:
      return rank == call.peer ? call.count * size : 0;
    case Kind::kRecv:
    case Kind::kBarrier:
    case Kind::kSplit:
      return 0;
    default:
      return call.count * size;
  }
}

int64_t OutputBytes(const CollectiveCall& call, int rank) {
  const int64_t size = DTypeSize(call.dtype);
  switch (call.kind) {
    case Kind::kReduceScatterSum:
      return call.counts[rank] * size;
    case Kind::kAllToAll:
      return Sum(call.recv_counts) * size;
    case Kind::kSend:
    case Kind::kBarrier:
    case Kind::kSplit:
      return 0;
    default:
      return call.count * size;
  }
}

std::vector<std::byte> NcclSplit::Encode() const {
  std::vector<int64_t> words = {static_cast<int64_t>(group), color_index};
  words.insert(words.end(), parent_ranks.begin(), parent_ranks.end());
  std::vector<std::byte> bytes(words.size() * sizeof(int64_t));
  std::memcpy(bytes.data(), words.data(), bytes.size());
  return bytes;
}

NcclSplit NcclSplit::Decode(const std::vector<std::byte>& bytes) {
  std::vector<int64_t> words(bytes.size() / sizeof(int64_t));
  CHECK_GE(words.size(), 2) << "[nccl] a broken answer to a split";
  std::memcpy(words.data(), bytes.data(), words.size() * sizeof(int64_t));
  return {.group = static_cast<uint64_t>(words[0]),
          .color_index = static_cast<int>(words[1]),
          .parent_ranks = std::vector<int>(words.begin() + 2, words.end())};
}

NcclHub::NcclHub(int num_processes) : left_(num_processes) {
  std::vector<int>& all = processes_[0];
  all.resize(num_processes);
  std::iota(all.begin(), all.end(), 0);
}

std::vector<NcclHub::Delivery> NcclHub::Join(NcclMessage join) {
  MpiMessage& content = join.content;
  const CollectiveCall& call = content.call;
  const int rank = content.from;
  const bool send = call.kind == Kind::kSend, recv = call.kind == Kind::kRecv;
  const Key key = {content.group,
                   send   ? rank
                   : recv ? call.peer
                          : -1,
                   send   ? call.peer
                   : recv ? rank
                          : -1,
                   call.sequence};
  Operation& operation = incomplete_[key];
  if (operation.calls.empty()) {
    operation.axis = join.axis;
    if (send || recv) {
      operation.ranks = {std::get<1>(key), std::get<2>(key)};
    } else {
      operation.ranks.resize(processes_.at(content.group).size());
      std::iota(operation.ranks.begin(), operation.ranks.end(), 0);
    }
    const size_t slots = operation.ranks.size();
    operation.calls.resize(slots);
    operation.tickets.resize(slots);
    operation.inputs.resize(slots);
    operation.outputs.resize(slots);
  }
  const int slot = send ? 0 : recv ? 1 : rank;
  operation.tickets[slot] = content.tag;
  operation.inputs[slot] = std::move(content.payload);
  operation.calls[slot] = std::move(content.call);
  if (++operation.num_joined < static_cast<int>(operation.ranks.size())) {
    return FailIfSomebodyLeft(content.group, operation);
  }
  Operation complete = std::move(operation);
  incomplete_.erase(key);
  return Finish(content.group, complete);
}

std::vector<NcclHub::Delivery> NcclHub::Finish(uint64_t group, Operation& operation) {
  const int slots = static_cast<int>(operation.calls.size());
  // In an all-to-all each pair of ranks has its own counts; otherwise all compare with the first.
  const int first_slots = operation.calls[0]->kind == Kind::kAllToAll ? slots : 1;
  for (int a = 0; a < first_slots; ++a) {
    for (int b = a + 1; b < slots; ++b) {
      const int rank_a = operation.ranks[a], rank_b = operation.ranks[b];
      if (CallsAgree(rank_a, *operation.calls[a], rank_b, *operation.calls[b])) continue;
      return {Failure(absl::FailedPreconditionError(absl::StrCat(
          "on axis ", operation.axis, ", ranks disagree: ", Called(rank_a, *operation.calls[a]),
          "; ", Called(rank_b, *operation.calls[b]))))};
    }
  }
  operation.outputs.resize(slots);
  if (operation.calls[0]->kind == Kind::kSplit) {
    MakeGroups(group, operation);
  } else if (operation.calls[0]->device == Device::kCpu) {
    Move(operation);
  }
  std::vector<Delivery> results;
  for (int slot = 0; slot < slots; ++slot) {
    results.push_back({processes_.at(group)[operation.ranks[slot]],
                       {.type = NcclMessage::Type::kResult,
                        .content = {.tag = operation.tickets[slot],
                                    .payload = std::move(operation.outputs[slot])}}});
  }
  return results;
}

// The buffers replace the tensors.
void NcclHub::Move(Operation& operation) const {
  for (size_t slot = 0; slot < operation.calls.size(); ++slot) {
    CollectiveCall& call = *operation.calls[slot];
    const int rank = operation.ranks[slot];
    CHECK_EQ(static_cast<int64_t>(operation.inputs[slot].size()), InputBytes(call, rank))
        << "[nccl] " << call.ToString() << " of rank " << rank;
    operation.outputs[slot].resize(OutputBytes(call, rank));
    if (call.kind == Kind::kBroadcast && rank == call.peer) {
      operation.outputs[slot] = operation.inputs[slot];
    }
    call.input = operation.inputs[slot].data();
    call.output = operation.outputs[slot].data();
  }
  const int64_t num_pieces = NumPieces(operation.calls);
  for (int64_t piece = 0; piece < num_pieces; ++piece) DoPiece(operation.calls, piece);
}

void NcclHub::MakeGroups(uint64_t group, Operation& split) {
  std::set<int> colors;
  for (const auto& call : split.calls) colors.insert(call->color);
  const std::vector<int> parent = processes_.at(group);
  int color_index = 0;
  for (const int color : colors) {
    NcclSplit made{.group = num_groups_++, .color_index = color_index++, .parent_ranks = {}};
    for (const int rank : split.ranks) {
      if (split.calls[rank]->color == color) made.parent_ranks.push_back(rank);
    }
    std::stable_sort(made.parent_ranks.begin(), made.parent_ranks.end(),
                     [&](int a, int b) { return split.calls[a]->key < split.calls[b]->key; });
    for (const int rank : made.parent_ranks) {
      processes_[made.group].push_back(parent[rank]);
      split.outputs[rank] = made.Encode();
    }
  }
}

std::vector<NcclHub::Delivery> NcclHub::FailIfSomebodyLeft(uint64_t group,
                                                           const Operation& operation) const {
  for (size_t slot = 0; slot < operation.ranks.size(); ++slot) {
    const int rank = operation.ranks[slot];
    if (operation.calls[slot] || !left_[processes_.at(group)[rank]]) continue;
    const auto joined = std::find_if(operation.calls.begin(), operation.calls.end(),
                                     [](const auto& call) { return call.has_value(); });
    return {Failure(
        absl::AbortedError(absl::StrCat("rank ", rank, " of axis ", operation.axis,
                                        " left the group before ", (*joined)->ToString())))};
  }
  return {};
}

std::vector<NcclHub::Delivery> NcclHub::Leave(int process) {
  left_[process] = true;
  for (const auto& [key, operation] : incomplete_) {
    auto failure = FailIfSomebodyLeft(std::get<0>(key), operation);
    if (!failure.empty()) return failure;
  }
  return {};
}

}  // namespace strake
