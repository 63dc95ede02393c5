// A group of one rank: every collective is the identity and is done when it returns; on a GPU it is
// enqueued on the bound stream.
#ifndef STRAKE_PARALLEL_COMM_SINGLE_RANK_COMMUNICATOR_H_
#define STRAKE_PARALLEL_COMM_SINGLE_RANK_COMMUNICATOR_H_

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "parallel/comm/communicator.h"

namespace strake {

class SingleRankCommunicator : public Communicator {
 public:
  explicit SingleRankCommunicator(CommunicatorOptions options = {})
      : Communicator(0, 1, std::move(options)) {}
  void Abort(const absl::Status& cause) override;

 protected:
  std::function<absl::Status()> Start(CollectiveCall call) override;
  absl::StatusOr<std::unique_ptr<Communicator>> SplitGroup(CollectiveCall call,
                                                           CommunicatorOptions options) override;

 private:
  absl::Status ErrorOf(const CollectiveCall& call) const;

  absl::Status aborted_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_SINGLE_RANK_COMMUNICATOR_H_
