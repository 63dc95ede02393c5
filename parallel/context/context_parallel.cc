#include "parallel/context/context_parallel.h"

#include "glog/logging.h"

namespace strake {

const char* ContextCommName(ContextComm comm) {
  return comm == ContextComm::kRing ? "ring" : "all_gather";
}

ContextParallel::ContextParallel(Communicator& communicator, ContextComm comm)
    : communicator_(&communicator),
      chunks_{.rank = communicator.rank(), .num_ranks = communicator.size()},
      comm_(comm) {}

ContextParallel ContextParallel::Planned(int rank, int size) {
  ContextParallel planned;
  planned.chunks_ = {.rank = rank, .num_ranks = size};
  return planned;
}

Communicator& ContextParallel::communicator() const {
  CHECK(communicator_ != nullptr) << "[context_parallel] no communicator";
  return *communicator_;
}

}  // namespace strake
