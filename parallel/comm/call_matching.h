// What implementations of Communicator need to match the calls of ranks: checks of calls that came
// from other processes, and the errors of those that do not match.
#ifndef STRAKE_PARALLEL_COMM_CALL_MATCHING_H_
#define STRAKE_PARALLEL_COMM_CALL_MATCHING_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "parallel/comm/collective_call.h"

namespace strake {

// A call's sender and receiver if it is a message, else -1 and -1. Together with the group and the
// sequence number they are the same for all calls that match.
std::pair<int, int> SenderAndReceiver(int rank, const CollectiveCall& call);

// Checks a call of rank `rank`, one of `size`, that another process sent: afterwards its enums,
// counts and ranks can be used as indices and sizes. The sums of its counts, in bytes, fit in an
// int64. InvalidArgument names the field and its value.
absl::Status CheckCall(const CollectiveCall& call, int rank, int size);

// The error of two ranks whose calls do not agree; names the lower rank first.
absl::Status RanksDisagree(int rank, const CollectiveCall& call, int other_rank,
                           const CollectiveCall& other);

// The error of a call that needs a rank that has left.
absl::Status RankLeft(int rank, const std::string& axis, const CollectiveCall& call);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_CALL_MATCHING_H_
