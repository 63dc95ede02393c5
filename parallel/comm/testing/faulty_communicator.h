// FaultyCommunicator: a group of which one rank fails, or stops answering, in a collective.
#ifndef STRAKE_PARALLEL_COMM_TESTING_FAULTY_COMMUNICATOR_H_
#define STRAKE_PARALLEL_COMM_TESTING_FAULTY_COMMUNICATOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/pending.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/collective_call.h"
#include "parallel/comm/communicator.h"

namespace strake::testing {

enum class Fault { kNone, kErrorBefore, kErrorInside, kStopBefore, kStopInside };

inline bool Stops(Fault fault) {
  return fault == Fault::kStopBefore || fault == Fault::kStopInside;
}

// The error of a rank that fails.
absl::Status InjectedError();

// What has numbers of its own: the collectives of a group, and its messages in each direction.
std::string Numbered(const std::string& axis, const std::string& collective);

// The fault of one rank in its collective or message number `at`, counted over all its groups.
struct FaultPlan {
  Fault fault = Fault::kNone;
  int64_t at = -1;
  std::function<void()> stop = [] {};  // returns when the other ranks have ended
  int64_t num_started = 0;
  bool happened = false;
  std::string axis = "";                           // where it happened
  std::map<std::string, int64_t> num_joined = {};  // by Numbered()
  std::map<std::string, int64_t> num_joined_at_stop = {};
};

// A group that works like `inner` until the fault, for tensors on the CPU.
class FaultyCommunicator : public Communicator {
 public:
  // Both must outlive this.
  FaultyCommunicator(Communicator& inner, FaultPlan* plan);
  FaultyCommunicator(std::unique_ptr<Communicator> inner, FaultPlan* plan);

  void Abort(const absl::Status& cause) override { inner_.Abort(cause); }
  void StartMessages() override { inner_.StartMessages(); }

 protected:
  std::function<absl::Status()> Start(CollectiveCall call) override;
  absl::StatusOr<std::unique_ptr<Communicator>> SplitGroup(CollectiveCall call,
                                                           CommunicatorOptions options) override;

 private:
  Pending<Tensor> Forward(const CollectiveCall& call);

  std::unique_ptr<Communicator> owned_;
  Communicator& inner_;
  FaultPlan* const plan_;
};

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_COMM_TESTING_FAULTY_COMMUNICATOR_H_
