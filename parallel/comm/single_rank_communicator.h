// A group of one rank: every collective is the identity and is done when it returns.
#ifndef STRAKE_PARALLEL_COMM_SINGLE_RANK_COMMUNICATOR_H_
#define STRAKE_PARALLEL_COMM_SINGLE_RANK_COMMUNICATOR_H_

#include "absl/status/status.h"
#include "core/base/pending.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"

namespace strake {

class SingleRankCommunicator : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  Pending<Tensor> AllReduceSum(Tensor x) override;
  absl::Status Barrier() override;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_SINGLE_RANK_COMMUNICATOR_H_
