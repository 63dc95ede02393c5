// One rank's end of a group for dry runs: there are no other ranks, collectives move nothing, and a
// recorder keeps the rank's calls.
#ifndef STRAKE_PARALLEL_COMM_DRY_RUN_COMMUNICATOR_H_
#define STRAKE_PARALLEL_COMM_DRY_RUN_COMMUNICATOR_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/device/op_call.h"
#include "parallel/comm/call_site.h"
#include "parallel/comm/collective_call.h"
#include "parallel/comm/communicator.h"

namespace strake {

class DryRunCommunicator : public Communicator {
 public:
  // `recorder` may be null, and must outlive the group.
  DryRunCommunicator(int rank, int size, std::string axis, OpRecorder* recorder);

  bool dry_run() const override { return true; }
  absl::StatusOr<std::unique_ptr<Communicator>> SplitInto(
      absl::Span<const int> members, std::string axis, CallSite site = CallSite::Here()) override;
  void Abort(const absl::Status& /*cause*/) override {}

 protected:
  // Results keep their contents. The recorded axis is stats_axis(). Collectives of one rank are not
  // recorded.
  std::function<absl::Status()> Start(CollectiveCall call) override;
  // Returns Unimplemented: the other ranks' colors are not known.
  absl::StatusOr<std::unique_ptr<Communicator>> SplitGroup(CollectiveCall call,
                                                           CommunicatorOptions options) override;

 private:
  OpRecorder* const recorder_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_DRY_RUN_COMMUNICATOR_H_
