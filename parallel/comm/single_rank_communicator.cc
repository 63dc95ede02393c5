#include "parallel/comm/single_rank_communicator.h"

#include <utility>

#include "glog/logging.h"

namespace strake {

Pending<Tensor> SingleRankCommunicator::AllReduceSum(Tensor x) {
  CHECK(x.defined()) << "[all_reduce_sum] an undefined tensor";
  return Pending<Tensor>(std::move(x));
}

absl::Status SingleRankCommunicator::Barrier() { return absl::OkStatus(); }

}  // namespace strake
