// Tests of the contract of every Communicator. An implementation runs them with
//
//   INSTANTIATE_TEST_SUITE_P(Mine, CommunicatorTest, ::testing::Values(backend), CommBackendName);
//
// and CommunicatorFailureTest likewise, where a test process survives the failure of its group.
#ifndef STRAKE_PARALLEL_COMM_TESTING_COMMUNICATOR_SUITE_H_
#define STRAKE_PARALLEL_COMM_TESTING_COMMUNICATOR_SUITE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "parallel/comm/collective_call.h"
#include "parallel/comm/communicator.h"

namespace strake::testing {

struct CommBackend {
  std::string name;
  // Makes a group of `size` ranks, runs `body` on each rank of this process, each on its own
  // thread, and returns when all are done. Does nothing where `size` is too large.
  std::function<void(int size, const CommunicatorOptions& options,
                     const std::function<void(Communicator&)>& body)>
      run;
  Device device = Device::kCpu;  // where the tensors are
};

inline std::string CommBackendName(const ::testing::TestParamInfo<CommBackend>& info) {
  return info.param.name;
}

// One call of a collective, with its wait, on a group of three or more ranks. Rank 0 sends to rank
// 1 and receives from it; rank 1 does not call the counterparts.
struct NamedCollective {
  CollectiveKind kind;
  std::function<absl::Status(Communicator&)> call;
};
std::vector<NamedCollective> EveryCollective();

class CommunicatorTest : public ::testing::TestWithParam<CommBackend> {
 protected:
  // Runs `body` on groups of 1, 2, 3, 4 and 8 ranks, with check mode on.
  static void OnEverySize(const std::function<void(Communicator&)>& body);
};

class CommunicatorFailureTest : public ::testing::TestWithParam<CommBackend> {};

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_COMM_TESTING_COMMUNICATOR_SUITE_H_
