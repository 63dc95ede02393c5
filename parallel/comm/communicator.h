// Communicator: a group of ranks that act as one.
//
// A group is a value that is handed to whoever needs it; no world exists beside it. To add an
// implementation, derive from this class and keep to the layouts below.
#ifndef STRAKE_PARALLEL_COMM_COMMUNICATOR_H_
#define STRAKE_PARALLEL_COMM_COMMUNICATOR_H_

#include "absl/status/status.h"
#include "core/base/pending.h"
#include "core/tensor/tensor.h"

namespace strake {

// One rank's end of a group, used on that rank's thread. Every rank of the group makes the same
// calls in the same order, with the same dtypes and shapes. An error, from any rank, leaves the
// contents of the tensors unspecified.
class Communicator {
 public:
  virtual ~Communicator() = default;

  // This rank's position in the group, in [0, size()).
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // In place: element i of x becomes, with the same bits on every rank, the sum over ranks, in rank
  // order, of their element i. x is not touched by the caller until the result was waited for.
  virtual Pending<Tensor> AllReduceSum(Tensor x) = 0;

  // Returns on no rank before every rank has called it; moves no data.
  virtual absl::Status Barrier() = 0;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_COMMUNICATOR_H_
