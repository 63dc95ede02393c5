#include "parallel/comm/nccl/nccl_hub.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "parallel/comm/call_matching.h"

namespace strake {
namespace {

using Kind = CollectiveKind;

int64_t Sum(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

std::vector<ControlMessage> Failure(absl::Status cause) {
  std::vector<ControlMessage> messages(1);
  messages[0].type = ControlMessage::Type::kFail;
  messages[0].failure = std::move(cause);
  return messages;
}

absl::Status Broken(const std::string& how) {
  return absl::InvalidArgumentError(absl::StrCat("it sent ", how));
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

absl::StatusOr<NcclSplit> NcclSplit::Decode(const std::vector<std::byte>& bytes, int parent_rank,
                                            int parent_size) {
  std::vector<int64_t> words(bytes.size() / sizeof(int64_t));
  if (words.size() < 3 || bytes.size() % sizeof(int64_t) != 0 ||
      words.size() - 2 > static_cast<size_t>(parent_size)) {
    return Broken(absl::StrCat("a split of ", bytes.size(), " bytes"));
  }
  std::memcpy(words.data(), bytes.data(), bytes.size());
  if (words[1] < 0 || words[1] >= parent_size) {
    return Broken(absl::StrCat("a split of color ", words[1], " of ", parent_size));
  }
  NcclSplit split{.group = static_cast<uint64_t>(words[0]),
                  .color_index = static_cast<int>(words[1]),
                  .parent_ranks = {}};
  std::set<int64_t> ranks;
  for (const int64_t rank : absl::MakeConstSpan(words).subspan(2)) {
    if (rank < 0 || rank >= parent_size || !ranks.insert(rank).second) {
      return Broken(absl::StrCat("a split with rank ", rank, " of ", parent_size,
                                 ranks.count(rank) > 0 ? " twice" : ""));
    }
    split.parent_ranks.push_back(static_cast<int>(rank));
  }
  if (ranks.count(parent_rank) > 0) return split;
  return Broken(absl::StrCat("a split without rank ", parent_rank, ", to which it went"));
}

NcclHub::NcclHub(int num_processes) : left_(num_processes) {
  std::vector<int>& all = processes_[0];
  all.resize(num_processes);
  std::iota(all.begin(), all.end(), 0);
}

absl::Status NcclHub::CheckJoin(int process, const ControlMessage& join) const {
  const auto group = processes_.find(join.group);
  if (group == processes_.end()) return Broken(absl::StrCat("a call of group ", join.group));
  const int size = static_cast<int>(group->second.size());
  if (join.from < 0 || join.from >= size || group->second[join.from] != process) {
    return Broken(absl::StrCat("a call of rank ", join.from, " of ", size, " of axis ", join.axis,
                               ", which it is not"));
  }
  STRAKE_RETURN_IF_ERROR(CheckCall(join.call, join.from, size));
  const int64_t num_bytes = join.call.device == Device::kCpu ? InputBytes(join.call, join.from) : 0;
  if (static_cast<int64_t>(join.payload.size()) == num_bytes) return absl::OkStatus();
  return Broken(absl::StrCat(join.payload.size(), " bytes, and not ", num_bytes, ", in ",
                             join.call.ToString()));
}

NcclHub::Operation& NcclHub::Find(const Key& key, const ControlMessage& join) {
  Operation& operation = incomplete_[key];
  if (!operation.calls.empty()) return operation;
  operation.axis = join.axis;
  const auto [group, sender, receiver, sequence] = key;
  if (sender >= 0) {
    operation.ranks = {sender, receiver};
  } else {
    operation.ranks.resize(processes_.at(group).size());
    std::iota(operation.ranks.begin(), operation.ranks.end(), 0);
  }
  const size_t slots = operation.ranks.size();
  operation.calls.resize(slots);
  operation.tickets.resize(slots);
  operation.inputs.resize(slots);
  operation.outputs.resize(slots);
  return operation;
}

absl::StatusOr<std::vector<ControlMessage>> NcclHub::Join(int process, ControlMessage join) {
  STRAKE_RETURN_IF_ERROR(CheckJoin(process, join));
  const auto [sender, receiver] = SenderAndReceiver(join.from, join.call);
  const Key key = {join.group, sender, receiver, join.call.sequence};
  Operation& operation = Find(key, join);
  const int slot = sender < 0 ? join.from : join.from == sender ? 0 : 1;
  if (operation.calls[slot]) {
    return Broken(absl::StrCat("a call of rank ", join.from, " of axis ", join.axis,
                               " a second time: ", join.call.ToString()));
  }
  operation.tickets[slot] = join.tag;
  operation.inputs[slot] = std::move(join.payload);
  operation.calls[slot] = std::move(join.call);
  if (++operation.num_joined < static_cast<int>(operation.ranks.size())) {
    return FailIfSomebodyLeft(join.group, operation);
  }
  Operation complete = std::move(operation);
  incomplete_.erase(key);
  return Finish(join.group, complete);
}

std::vector<ControlMessage> NcclHub::Finish(uint64_t group, Operation& operation) {
  const int slots = static_cast<int>(operation.calls.size());
  // In an all-to-all each pair of ranks has its own counts; otherwise all compare with the first.
  const int first_slots = operation.calls[0]->kind == Kind::kAllToAll ? slots : 1;
  for (int a = 0; a < first_slots; ++a) {
    for (int b = a + 1; b < slots; ++b) {
      const int rank_a = operation.ranks[a], rank_b = operation.ranks[b];
      if (CallsAgree(rank_a, *operation.calls[a], rank_b, *operation.calls[b])) continue;
      const absl::Status cause =
          RanksDisagree(rank_a, *operation.calls[a], rank_b, *operation.calls[b]);
      return Failure(absl::Status(cause.code(),
                                  absl::StrCat("on axis ", operation.axis, ", ", cause.message())));
    }
  }
  if (operation.calls[0]->kind == Kind::kSplit) {
    MakeGroups(group, operation);
  } else if (operation.calls[0]->device == Device::kCpu) {
    Move(operation);
  }
  std::vector<ControlMessage> results;
  for (int slot = 0; slot < slots; ++slot) {
    ControlMessage& result = results.emplace_back();
    result.type = ControlMessage::Type::kResult;
    result.to = processes_.at(group)[operation.ranks[slot]];
    result.tag = operation.tickets[slot];
    result.payload = std::move(operation.outputs[slot]);
  }
  return results;
}

// The buffers replace the tensors.
void NcclHub::Move(Operation& operation) const {
  for (size_t slot = 0; slot < operation.calls.size(); ++slot) {
    CollectiveCall& call = *operation.calls[slot];
    const int rank = operation.ranks[slot];
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

std::vector<ControlMessage> NcclHub::FailIfSomebodyLeft(uint64_t group,
                                                        const Operation& operation) const {
  for (size_t slot = 0; slot < operation.ranks.size(); ++slot) {
    const int rank = operation.ranks[slot];
    if (operation.calls[slot] || !left_[processes_.at(group)[rank]]) continue;
    const auto joined = std::find_if(operation.calls.begin(), operation.calls.end(),
                                     [](const auto& call) { return call.has_value(); });
    return Failure(RankLeft(rank, operation.axis, **joined));
  }
  return {};
}

std::vector<ControlMessage> NcclHub::Leave(int process) {
  left_[process] = true;
  for (const auto& [key, operation] : incomplete_) {
    std::vector<ControlMessage> failure = FailIfSomebodyLeft(std::get<0>(key), operation);
    if (!failure.empty()) return failure;
  }
  return {};
}

}  // namespace strake
