#include "parallel/comm/liveness.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "parallel/comm/call_matching.h"

namespace strake {
namespace {

using std::chrono::milliseconds;
using Type = ControlMessage::Type;

std::string Ranks(const std::vector<int>& ranks) {
  return absl::StrCat(ranks.size() == 1 ? "rank " : "ranks ", absl::StrJoin(ranks, ", "));
}

// `who` names the culprits, and what they failed to do.
absl::Status TimedOut(const Liveness::Wait& wait, const std::string& who, const std::string& in) {
  return absl::DeadlineExceededError(absl::StrCat(who, " within ", wait.timeout.count(),
                                                  " ms: rank ", wait.group.rank, " waits in ", in));
}

std::string WaitsIn(const Liveness::Wait& wait) {
  return wait.call != nullptr ? wait.call->ToString() : wait.what;
}

std::string OfAxis(const std::vector<int>& ranks, const ProcessGroup& group, const char* what) {
  return absl::StrCat(Ranks(ranks), " of axis ", group.axis, absl::string_view(what));
}

}  // namespace

Liveness::Liveness(World world, std::function<void(const ControlMessage&)> send,
                   std::function<void()> on_failure)
    : world_(world), send_(std::move(send)), on_failure_(std::move(on_failure)) {}

// --- This process. ---

void Liveness::Begin(Wait* wait, Time now) {
  wait->timeout = wait->group.timeout;
  wait->deadline = now + wait->timeout;
  waits_.push_back(wait);
}

void Liveness::End(Wait* wait) { waits_.erase(std::find(waits_.begin(), waits_.end(), wait)); }

Liveness::Counter Liveness::CounterOf(const ProcessGroup& group, const CollectiveCall& call) {
  const auto [sender, receiver] = SenderAndReceiver(group.rank, call);
  return {group.id, sender, receiver};
}

void Liveness::Started(const ProcessGroup& group, const CollectiveCall& call) {
  const int64_t num_started = started_[CounterOf(group, call)] = call.sequence + 1;
  last_calls_[group.id] = {group, call, num_started};
}

// --- Waits that have timed out. ---

void Liveness::Check(Time now) {
  for (Wait* const wait : waits_) {
    if (!failure_.ok()) return;
    if (wait->round == 0) {
      if (now < wait->deadline) continue;
      // Whoever has joined need not be asked.
      if (wait->lack != nullptr && wait->lack().missing.empty()) return Fail(*Judge(*wait));
      Ask(*wait, now);
    }
    const bool all_answered = std::all_of(
        wait->asked.begin(), wait->asked.end(),
        [wait](int process) { return wait->answers.find(process) != wait->answers.end(); });
    if (!all_answered && now < wait->round_end) continue;
    if (const std::optional<absl::Status> cause = Judge(*wait)) return Fail(*cause);
    if (now >= wait->round_end) Ask(*wait, now);
  }
}

void Liveness::Ask(Wait& wait, Time now) {
  ++wait.round;
  wait.round_end = now + kAnswerTime;
  wait.asked.clear();
  const auto ask = [&](int process) {
    wait.answers.erase(process);
    wait.asked.insert(process);
  };
  if (wait.lack != nullptr) {
    for (const int rank : wait.lack().missing) ask(wait.group.processes[rank]);
  } else if (wait.round > 1) {
    for (const int process : wait.suspects) ask(process);
  }
  ControlMessage question{.type = Type::kAsk, .group = world_.id, .from = world_.process};
  question.tag = wait.timeout.count();
  question.flag = true;
  for (const int process : wait.asked) {
    question.to = process;
    send_(question);
  }
  if (wait.lack != nullptr || wait.round > 1) return;
  for (int process = 0; process < world_.size; ++process) {
    if (process != world_.process) ask(process);
  }
  question.to = ControlMessage::kEveryProcess;
  question.flag = false;  // most of them have nothing to do with this wait
  send_(question);
}

std::optional<absl::Status> Liveness::Judge(Wait& wait) const {
  if (wait.lack == nullptr) return JudgeByProgress(wait);
  const Lack lack = wait.lack();
  if (lack.missing.empty()) {
    return TimedOut(wait, OfAxis(lack.unfinished, wait.group, " did not go on"), WaitsIn(wait));
  }
  const std::vector<int> idle = Idle(wait, wait.group, lack.missing);
  if (idle.empty() && wait.round < kMaxRounds) return std::nullopt;
  return TimedOut(wait, OfAxis(idle.empty() ? lack.missing : idle, wait.group, " did not join"),
                  WaitsIn(wait));
}

std::optional<absl::Status> Liveness::JudgeByProgress(Wait& wait) const {
  if (world_.relay >= 0 && world_.relay != world_.process && wait.answers.empty()) {
    return TimedOut(wait,
                    absl::StrCat("rank ", world_.relay, " of all ", world_.size, " did not answer"),
                    WaitsIn(wait));
  }
  // Calls that others may not have started: this wait's own, then the last ones of all groups.
  struct Candidate {
    const ProcessGroup& group;
    const CollectiveCall& call;
    std::vector<int> missing;
  };
  std::vector<Candidate> candidates;
  const auto consider = [&](const ProcessGroup& group, const CollectiveCall& call, int64_t num) {
    std::vector<int> missing = MissingIn(wait, group, CounterOf(group, call), num);
    if (!missing.empty()) candidates.push_back({group, call, std::move(missing)});
  };
  if (wait.call != nullptr) consider(wait.group, *wait.call, wait.call->sequence + 1);
  for (const auto& [id, last] : last_calls_) consider(last.group, last.call, last.num_started);
  const auto blame = [&](const Candidate& candidate, const std::vector<int>& ranks) {
    return TimedOut(wait, OfAxis(ranks, candidate.group, " did not join"),
                    candidate.call.ToString());
  };
  for (const Candidate& candidate : candidates) {
    const std::vector<int> idle = Idle(wait, candidate.group, candidate.missing);
    if (!idle.empty()) return blame(candidate, idle);
  }
  if (!candidates.empty()) {
    const Candidate& first = candidates.front();
    if (wait.round == kMaxRounds) return blame(first, first.missing);
    wait.suspects.clear();
    for (const int rank : first.missing) wait.suspects.push_back(first.group.processes[rank]);
    return std::nullopt;
  }
  std::vector<int> absent;
  for (int process = 0; process < world_.size; ++process) {
    if (process != world_.process && !Waits(wait, process)) absent.push_back(process);
  }
  return TimedOut(wait,
                  absl::StrCat(absent.empty() ? "no rank" : Ranks(absent), " of all ", world_.size,
                               absent.empty() ? " is missing, and GPUs did not come to an end"
                                              : " did not come"),
                  WaitsIn(wait));
}

std::vector<int> Liveness::MissingIn(const Wait& wait, const ProcessGroup& group,
                                     const Counter& counter, int64_t num_started) const {
  const auto [id, sender, receiver] = counter;
  std::vector<int> missing;
  for (int rank = 0; rank < static_cast<int>(group.processes.size()); ++rank) {
    if (rank == group.rank || (sender >= 0 && rank != sender && rank != receiver)) continue;
    const auto answer = wait.answers.find(group.processes[rank]);
    int64_t theirs = 0;
    if (answer != wait.answers.end()) {
      const auto started = answer->second.started.find(counter);
      if (started != answer->second.started.end()) theirs = started->second;
    }
    if (answer == wait.answers.end() || theirs < num_started) missing.push_back(rank);
  }
  return missing;
}

bool Liveness::Waits(const Wait& wait, int process) {
  const auto answer = wait.answers.find(process);
  return answer != wait.answers.end() && answer->second.waits;
}

std::vector<int> Liveness::Idle(const Wait& wait, const ProcessGroup& group,
                                const std::vector<int>& ranks) {
  std::vector<int> idle;
  for (const int rank : ranks) {
    if (!Waits(wait, group.processes[rank])) idle.push_back(rank);
  }
  return idle;
}

// --- Failures. ---

void Liveness::Fail(const absl::Status& cause, bool aborted) {
  if (!failure_.ok()) return;
  failure_ = cause;
  ControlMessage news{.type = Type::kFail, .group = world_.id, .from = world_.process};
  news.failure = cause;
  news.flag = aborted;
  send_(news);
  on_failure_();
}

void Liveness::ConnectionEnded(int process) {
  if (left_.count(process) > 0) return;
  Fail(absl::UnavailableError(absl::StrCat(
      "rank ", process, " of all ", world_.size, " ended without a word: its connection to rank ",
      world_.process, " is closed; its own output may say why")));
}

// --- Messages. ---

absl::Status Liveness::Receive(const ControlMessage& message, Time now) {
  if (message.from < 0 || message.from >= world_.size || message.from == world_.process) {
    return absl::InvalidArgumentError(absl::StrCat("a message has the sender ", message.from,
                                                   ", and goes to process ", world_.process, " of ",
                                                   world_.size));
  }
  switch (message.type) {
    case Type::kFail:
      if (!failure_.ok()) return absl::OkStatus();
      failure_ = message.failure;
      aborted_elsewhere_ = message.flag;
      on_failure_();
      return absl::OkStatus();
    case Type::kAsk:
      if (message.tag < 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("a question has a timeout of ", message.tag, " ms"));
      }
      for (Wait* const wait : waits_) {
        if (!message.flag || wait->round > 0) continue;
        wait->deadline = std::min(wait->deadline, now);
        wait->timeout = std::min(wait->timeout, milliseconds(message.tag));
      }
      Answer(message.from);
      return absl::OkStatus();
    case Type::kAnswer: {
      Wait::Answer answer{.waits = message.flag};
      for (const CallProgress& progress : message.progress) {
        answer.started[{progress.group, progress.sender, progress.receiver}] = progress.num_started;
      }
      for (Wait* const wait : waits_) {
        if (wait->asked.count(message.from) > 0) wait->answers[message.from] = answer;
      }
      return absl::OkStatus();
    }
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "a message of type ", static_cast<int>(message.type), " is not about failures"));
  }
}

void Liveness::Answer(int asker) {
  ControlMessage answer{
      .type = Type::kAnswer, .group = world_.id, .from = world_.process, .to = asker};
  answer.flag = !waits_.empty();
  for (const auto& [counter, num_started] : started_) {
    const auto [group, sender, receiver] = counter;
    answer.progress.push_back({group, sender, receiver, num_started});
  }
  send_(answer);
}

}  // namespace strake
