#include "parallel/comm/testing/nccl/nccl_meetings.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/base/dtype.h"
#include "glog/logging.h"

namespace strake::testing {
namespace {

template <typename T>
T Combined(NcclOp op, T a, T b) {
  if (op == NcclOp::kSum) return a + b;
  if constexpr (std::is_floating_point_v<T>) return std::fmax(a, b);
  return std::max(a, b);
}

Bf16 Combined(NcclOp op, Bf16 a, Bf16 b) {
  return Bf16(Combined(op, static_cast<float>(a), static_cast<float>(b)));
}

template <typename T>
std::vector<char> ReducedAs(const NcclMeeting& meeting, size_t begin, size_t count) {
  std::vector<T> result(count);
  for (const auto& [rank, call] : meeting.calls) {
    const T* const input = static_cast<const T*>(call.input) + begin;
    for (size_t i = 0; i < count; ++i) {
      result[i] = rank == 0 ? input[i] : Combined(call.op, result[i], input[i]);
    }
  }
  const char* const bytes = reinterpret_cast<const char*>(result.data());
  return std::vector<char>(bytes, bytes + count * sizeof(T));
}

std::vector<char> Reduced(const NcclMeeting& meeting, size_t begin, size_t count) {
  switch (meeting.calls.begin()->second.type) {
    case NcclType::kFloat32:
      return ReducedAs<float>(meeting, begin, count);
    case NcclType::kFloat64:
      return ReducedAs<double>(meeting, begin, count);
    case NcclType::kBfloat16:
      return ReducedAs<Bf16>(meeting, begin, count);
    case NcclType::kInt32:
      return ReducedAs<int32_t>(meeting, begin, count);
    case NcclType::kInt64:
      return ReducedAs<int64_t>(meeting, begin, count);
    case NcclType::kInt8:
      break;
  }
  LOG(FATAL) << "no reduction of bytes is asked for";
}

void Put(const std::vector<char>& bytes, void* to) {
  if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
}

std::vector<char> Taken(const void* from, size_t num_bytes) {
  const char* const bytes = static_cast<const char*>(from);
  return std::vector<char>(bytes, bytes + num_bytes);
}

void Perform(const NcclMeeting& meeting) {
  const NcclCall& first = meeting.calls.at(0);
  const int size = static_cast<int>(meeting.calls.size());
  const size_t bytes = first.count * NcclTypeBytes(first.type);
  switch (first.function) {
    case NcclFunction::kAllReduce: {
      const std::vector<char> result = Reduced(meeting, 0, first.count);
      for (const auto& [rank, call] : meeting.calls) Put(result, call.output);
      return;
    }
    case NcclFunction::kReduce:
      return Put(Reduced(meeting, 0, first.count), meeting.calls.at(first.peer).output);
    case NcclFunction::kReduceScatter: {
      const std::vector<char> result = Reduced(meeting, 0, first.count * size);
      for (const auto& [rank, call] : meeting.calls) {
        Put(Taken(result.data() + rank * bytes, bytes), call.output);
      }
      return;
    }
    case NcclFunction::kAllGather: {
      std::vector<char> result;
      for (const auto& [rank, call] : meeting.calls) {
        const std::vector<char> piece = Taken(call.input, bytes);
        result.insert(result.end(), piece.begin(), piece.end());
      }
      for (const auto& [rank, call] : meeting.calls) Put(result, call.output);
      return;
    }
    case NcclFunction::kBroadcast: {
      const std::vector<char> result = Taken(meeting.calls.at(first.peer).input, bytes);
      for (const auto& [rank, call] : meeting.calls) Put(result, call.output);
      return;
    }
    case NcclFunction::kSend:
    case NcclFunction::kRecv:
      LOG(FATAL) << "a message is no collective";
  }
}

absl::Status Differ(int64_t number, int rank, const NcclCall& call, int other_rank,
                    const NcclCall& other) {
  return absl::InvalidArgumentError(absl::StrCat("ranks differ in collective #", number, ": rank ",
                                                 other_rank, " made ", ToString(other),
                                                 ", and rank ", rank, " ", ToString(call)));
}

}  // namespace

absl::Status NcclMeetings::Issue(int rank, const NcclCall& call) {
  if (call.is_message() || size_ == 1) return absl::OkStatus();
  const int64_t number = num_issued_[rank]++;
  const auto [found, is_first] = issued_.insert({number, {rank, call}});
  if (is_first) return absl::OkStatus();
  const Issued first = found->second;
  if (++found->second.num_ranks == size_) issued_.erase(found);
  if (SameCollective(call, first.call)) return absl::OkStatus();
  return Differ(number, rank, call, first.rank, first.call);
}

absl::StatusOr<std::shared_ptr<NcclMeeting>> NcclMeetings::Meet(int rank, const NcclCall& call) {
  return call.is_message() ? MeetMessage(rank, call) : MeetCollective(rank, call);
}

absl::StatusOr<std::shared_ptr<NcclMeeting>> NcclMeetings::MeetCollective(int rank,
                                                                          const NcclCall& call) {
  const int64_t number = num_run_[rank]++;
  std::shared_ptr<NcclMeeting>& entry = collectives_[number];
  if (entry == nullptr) entry = std::make_shared<NcclMeeting>();
  const std::shared_ptr<NcclMeeting> meeting = entry;
  if (!meeting->calls.empty()) {
    const auto& [first_rank, first] = *meeting->calls.begin();
    if (!SameCollective(call, first)) return Differ(number, rank, call, first_rank, first);
  }
  meeting->calls.emplace(rank, call);
  if (static_cast<int>(meeting->calls.size()) == size_) {
    collectives_.erase(number);
    Perform(*meeting);
    meeting->done = true;
  }
  return meeting;
}

absl::StatusOr<std::shared_ptr<NcclMeeting>> NcclMeetings::MeetMessage(int rank,
                                                                       const NcclCall& call) {
  const bool sends = call.function == NcclFunction::kSend;
  auto& queue = messages_[sends ? std::pair(rank, call.peer) : std::pair(call.peer, rank)];
  const int side = sends ? 0 : 1;
  for (auto at = queue.begin(); at != queue.end(); ++at) {
    const std::shared_ptr<NcclMeeting> meeting = *at;
    if (meeting->calls.count(side) > 0) continue;
    meeting->calls.emplace(side, call);
    const NcclCall &from = meeting->calls.at(0), &to = meeting->calls.at(1);
    if (from.count != to.count || from.type != to.type || from.captured != to.captured) {
      return absl::InvalidArgumentError(absl::StrCat("the ends of a message differ: rank ", to.peer,
                                                     " made ", ToString(from), ", and rank ",
                                                     from.peer, " ", ToString(to)));
    }
    Put(Taken(from.input, from.count * NcclTypeBytes(from.type)), to.output);
    meeting->done = true;
    queue.erase(at);
    return meeting;
  }
  queue.push_back(std::make_shared<NcclMeeting>());
  queue.back()->calls.emplace(side, call);
  return queue.back();
}

}  // namespace strake::testing
