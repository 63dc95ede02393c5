// ForwardingCommunicator: passes the collectives of a step on to another communicator. Tests derive
// from it, to lose or delay some of them.
#ifndef STRAKE_TESTS_FORWARDING_COMMUNICATOR_H_
#define STRAKE_TESTS_FORWARDING_COMMUNICATOR_H_

#include <functional>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/pending.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/mesh/mesh.h"

namespace strake::testing {

class ForwardingCommunicator : public Communicator {
 public:
  explicit ForwardingCommunicator(Communicator& inner);
  explicit ForwardingCommunicator(std::unique_ptr<Communicator> inner);

  void Abort(const absl::Status& cause) override { inner_.Abort(cause); }

 protected:
  std::function<absl::Status()> Start(CollectiveCall call) override;
  absl::StatusOr<std::unique_ptr<Communicator>> SplitGroup(CollectiveCall call,
                                                           CommunicatorOptions options) override;

  // Makes the call of the inner communicator. CHECKs that a training step makes such calls.
  Pending<Tensor> Forward(const CollectiveCall& call);

  // Wraps a group that was split off; without an override it is not wrapped.
  virtual std::unique_ptr<Communicator> Wrap(std::unique_ptr<Communicator> group) { return group; }

 private:
  std::unique_ptr<Communicator> owned_;
  Communicator& inner_;
};

// The mesh with what `wrap` makes of each of its groups.
Mesh WrapGroups(const Mesh& mesh,
                absl::FunctionRef<std::unique_ptr<Communicator>(Communicator& group)> wrap);

}  // namespace strake::testing

#endif  // STRAKE_TESTS_FORWARDING_COMMUNICATOR_H_
