// Liveness: a protocol by which the processes of a world find out who keeps them waiting, and by
// which all of them learn of the first failure. It serves every transport between processes.
//
// A process whose wait has timed out cannot know who is to blame: whoever it waits for may wait for
// another process. So it asks (kAsk): those that it misses, where it knows them, otherwise all.
// Every process answers whether it waits itself, and which calls it has started (kAnswer). To blame
// are those that are missing and do not wait; a process that is silent does not wait. If all that
// are missing wait, they are told that they keep others waiting, and ask in turn. So the one that
// misses the culprit fails first, and the others learn of that. A wait asks at most kMaxRounds
// times, and then blames whoever is missing.
//
// The first cause of a failure is kept, and told to all (kFail).
//
// What is left to transports is how they learn of deaths and of departures (a TCP connection ends
// with its process, whereas MPI is silent), and what they do with operations under way after a
// failure. The caller holds its lock during every call, and gives the time.
#ifndef STRAKE_PARALLEL_COMM_LIVENESS_H_
#define STRAKE_PARALLEL_COMM_LIVENESS_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "parallel/comm/collective_call.h"
#include "parallel/comm/control_message.h"

namespace strake {

// A group as one of its processes knows it.
struct ProcessGroup {
  uint64_t id = 0;
  std::string axis;
  int rank = 0;
  std::vector<int> processes;  // of the world, by rank
  std::chrono::milliseconds timeout{0};
};

class Liveness {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // How long a process may take to answer, and how often a wait asks: once for each axis of a mesh.
  static constexpr std::chrono::milliseconds kAnswerTime{1000};
  static constexpr int kMaxRounds = 4;

  struct World {
    uint64_t id = 0;
    int process = 0, size = 1;
    // The process through which all messages go; -1 if there is none.
    int relay = -1;
  };

  // `send` passes a message to process message.to, or to all others. `on_failure` is called once,
  // after the failure was told.
  Liveness(World world, std::function<void(const ControlMessage&)> send,
           std::function<void()> on_failure);
  Liveness(const Liveness&) = delete;
  Liveness& operator=(const Liveness&) = delete;

  // What a wait for a call lacks: ranks of the group that have not joined, and ranks that have
  // joined and still owe data.
  struct Lack {
    std::vector<int> missing, unfinished;
  };

  // A wait of this process, from Begin() to End(). What it points to lives as long.
  struct Wait {
    const ProcessGroup& group;
    const CollectiveCall* call = nullptr;  // null for a wait for something else
    std::string what{};                    // then names that
    // Null where the process does not know; it then goes by the calls that others have started.
    std::function<Lack()> lack{};

    // Liveness's own.
    struct Answer {
      bool waits = false;
      std::map<std::tuple<uint64_t, int, int>, int64_t> started{};
    };
    Time deadline{}, round_end{};
    std::chrono::milliseconds timeout{0};  // of the group, or of a process that waits for this one
    int round = 0;
    std::set<int> asked{};            // processes
    std::vector<int> suspects{};      // processes that are missing, and wait
    std::map<int, Answer> answers{};  // by process
  };
  void Begin(Wait* wait, Time now);
  void End(Wait* wait);

  // Records that this process has started a call, which may be destroyed afterwards. Needed where
  // waits do not know what they lack.
  void Started(const ProcessGroup& group, const CollectiveCall& call);

  // Asks, and fails the world, as far as waits have timed out. To be called at intervals while
  // there are waits.
  void Check(Time now);

  // Fails the world; the first cause is kept. `aborted`: by a call of Abort().
  void Fail(const absl::Status& cause, bool aborted = false);
  // The connection to a process has ended. Fails the world, unless that process has left before.
  void ConnectionEnded(int process);
  void Left(int process) { left_.insert(process); }

  // Takes a kFail, kAsk or kAnswer. InvalidArgument names what cannot be, and its value.
  absl::Status Receive(const ControlMessage& message, Time now);

  // Ok, or the first cause.
  const absl::Status& failure() const { return failure_; }
  // True if that was a call of Abort() of another process.
  bool aborted_elsewhere() const { return aborted_elsewhere_; }

 private:
  using Counter = std::tuple<uint64_t, int, int>;  // group, sender and receiver
  struct LastCall {
    ProcessGroup group;
    CollectiveCall call;
    int64_t num_started;
  };

  static Counter CounterOf(const ProcessGroup& group, const CollectiveCall& call);
  void Ask(Wait& wait, Time now);
  void Answer(int asker);
  // The failure, or nothing while all that are missing wait.
  std::optional<absl::Status> Judge(Wait& wait) const;
  std::optional<absl::Status> JudgeByProgress(Wait& wait) const;
  std::vector<int> MissingIn(const Wait& wait, const ProcessGroup& group, const Counter& counter,
                             int64_t num_started) const;
  static bool Waits(const Wait& wait, int process);
  static std::vector<int> Idle(const Wait& wait, const ProcessGroup& group,
                               const std::vector<int>& ranks);

  const World world_;
  const std::function<void(const ControlMessage&)> send_;
  const std::function<void()> on_failure_;
  absl::Status failure_;
  bool aborted_elsewhere_ = false;
  std::set<int> left_;  // processes
  std::vector<Wait*> waits_;
  std::map<Counter, int64_t> started_;
  std::map<uint64_t, LastCall> last_calls_;  // by group
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_LIVENESS_H_
