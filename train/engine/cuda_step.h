// What an engine on a GPU has besides: tokens on their way there, and its passes as CUDA graphs.
#ifndef STRAKE_TRAIN_ENGINE_CUDA_STEP_H_
#define STRAKE_TRAIN_ENGINE_CUDA_STEP_H_

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/cuda/cuda_runtime.h"
#include "core/memory/device_memory.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"
#include "train/engine/engine_pass.h"

namespace strake {

// Carries batches to the GPU, always to the same place, through pinned memory of two batches: the
// host waits only when it is two ahead.
class BatchUpload {
 public:
  // Batches of at most `num_tokens`. ResourceExhausted when there is no memory.
  static absl::StatusOr<BatchUpload> Create(int64_t num_tokens);

  // The same of both [N] i32 on the GPU once `stream` has come here; enqueued. The host's may
  // change afterwards; the GPU's hold until the next call. `group` is one of those whose ranks the
  // stream may be waiting for.
  absl::StatusOr<std::pair<Tensor, Tensor>> Upload(Communicator& group, CudaStream stream,
                                                   const Tensor& tokens, const Tensor& targets);

 private:
  struct Slot {
    PinnedMemory memory;
    CudaEvent copied;
  };
  std::array<Slot, 2> slots_;
  int next_slot_ = 0;
  DeviceBuffer batch_;  // [2, num_tokens]
};

// Runs passes that are enqueued again and again with the same inputs. The first time a pass comes
// it is enqueued as it is (libraries then load and plan what they need), the second time recorded,
// and from then on launched.
class PassGraphs {
 public:
  // `enqueue` depends on `pass` and the contents of memory alone.
  absl::Status Run(CudaStream stream, const EnginePass& pass,
                   absl::FunctionRef<absl::Status()> enqueue);

 private:
  struct SeenPass {
    EnginePass pass;
    std::optional<CudaGraph> graph;  // from the second time on
  };
  std::vector<SeenPass> passes_;  // a handful
};

}  // namespace strake

#endif  // STRAKE_TRAIN_ENGINE_CUDA_STEP_H_
