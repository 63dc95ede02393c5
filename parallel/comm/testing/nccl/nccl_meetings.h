// Where the ranks of a communicator of the contract NCCL meet: on the host, in the order in which
// they make collectives, and on the GPU, in the order in which those run.
#ifndef STRAKE_PARALLEL_COMM_TESTING_NCCL_NCCL_MEETINGS_H_
#define STRAKE_PARALLEL_COMM_TESTING_NCCL_NCCL_MEETINGS_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "parallel/comm/testing/nccl/nccl_call.h"

namespace strake::testing {

// A collective that ranks have arrived at, or a message of one or both of its ends.
struct NcclMeeting {
  std::map<int, NcclCall> calls;  // by rank; of a message: 0 the sender's, 1 the receiver's
  bool done = false;
};

// Its functions are called with one lock held, whose owner these are.
class NcclMeetings {
 public:
  explicit NcclMeetings(int size) : size_(size), num_issued_(size), num_run_(size) {}

  int size() const { return size_; }

  // On the host, when a rank makes a call. An error names both sides if another rank made another
  // call in its place.
  absl::Status Issue(int rank, const NcclCall& call);

  // On the GPU, when a rank's kernel starts. The last rank does the work of all.
  absl::StatusOr<std::shared_ptr<NcclMeeting>> Meet(int rank, const NcclCall& call);

 private:
  struct Issued {
    int rank;
    NcclCall call;
    int num_ranks = 1;
  };

  absl::StatusOr<std::shared_ptr<NcclMeeting>> MeetCollective(int rank, const NcclCall& call);
  absl::StatusOr<std::shared_ptr<NcclMeeting>> MeetMessage(int rank, const NcclCall& call);

  const int size_;
  std::vector<int64_t> num_issued_, num_run_;  // collectives, by rank
  std::map<int64_t, Issued> issued_;           // that not all ranks have made
  std::map<int64_t, std::shared_ptr<NcclMeeting>> collectives_;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<NcclMeeting>>> messages_;
};

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_COMM_TESTING_NCCL_NCCL_MEETINGS_H_
