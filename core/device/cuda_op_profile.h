// CudaOpProfile: the times of a rank's ops on its GPU.
#ifndef STRAKE_CORE_DEVICE_CUDA_OP_PROFILE_H_
#define STRAKE_CORE_DEVICE_CUDA_OP_PROFILE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "core/base/op_profile.h"
#include "core/cuda/stream.h"
#include "core/device/cuda_timeline.h"

namespace strake {

// Records an event on the rank's stream before and after each op. The host waits for none of them:
// entries() are complete after Resolve(). If the host enqueues more slowly than the GPU works, an
// op's time includes the GPU's wait for it. Must not be used while a graph is captured.
class CudaOpProfile : public OpProfile {
 public:
  explicit CudaOpProfile(CudaStream stream) : timeline_(stream) {}

  int64_t Now() override;
  void AddSince(int64_t start, const char* op, Pass pass, const OpCost& cost) override;

  // Waits for the stream, and adds the ops since the last call. Returns an event's error.
  absl::Status Resolve();

 private:
  struct Op {
    int64_t start, end;  // points of timeline_
    const char* name;
    Pass pass;
    OpCost cost;
  };

  CudaTimeline timeline_;
  std::vector<Op> ops_;
  absl::Status error_;
};

}  // namespace strake

#endif  // STRAKE_CORE_DEVICE_CUDA_OP_PROFILE_H_
