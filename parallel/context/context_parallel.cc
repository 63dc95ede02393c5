#include "parallel/context/context_parallel.h"

#include "glog/logging.h"

namespace strake {

ContextParallel::ContextParallel(Communicator& communicator, ContextComm comm)
    : communicator_(&communicator),
      chunks_{.rank = communicator.rank(), .num_ranks = communicator.size()},
      comm_(comm) {}

Communicator& ContextParallel::communicator() const {
  CHECK(communicator_ != nullptr) << "[context_parallel] one rank has no communicator";
  return *communicator_;
}

}  // namespace strake
