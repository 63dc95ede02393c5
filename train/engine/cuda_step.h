// Further parts of an engine on a GPU: the upload of tokens, and its passes as CUDA graphs.
#ifndef STRAKE_TRAIN_ENGINE_CUDA_STEP_H_
#define STRAKE_TRAIN_ENGINE_CUDA_STEP_H_

#include <array>
#include <cstdint>
#include <optional>
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

// Copies batches to the GPU, always to the same place, through pinned memory of two batches: the
// host waits only when it is two batches ahead.
class BatchUpload {
 public:
  // Batches of at most `num_tokens`, with positions if there are documents. ResourceExhausted when
  // there is no memory.
  static absl::StatusOr<BatchUpload> Create(int64_t num_tokens, bool documents);

  // Enqueues a copy of each [N] i32 to the GPU after the work now on `stream`, and returns where
  // the copies are. `positions` are undefined without documents. The host tensors may change
  // afterwards; the GPU's are valid until the next call. `group` is one of those whose ranks the
  // stream may be waiting for.
  absl::StatusOr<TokenPlace> Upload(Communicator& group, CudaStream stream, const Tensor& tokens,
                                    const Tensor& targets, const Tensor& positions);

 private:
  struct Slot {
    PinnedMemory memory;
    CudaEvent copied;
  };
  std::array<Slot, 2> slots_;
  int next_slot_ = 0;
  DeviceBuffer batch_;  // [2 or 3, num_tokens]
};

// Runs passes that are enqueued repeatedly with the same inputs. A pass is enqueued directly the
// first time (libraries then load and plan what they need), recorded the second time, and launched
// as a graph from then on.
class PassGraphs {
 public:
  // The work of `enqueue` depends only on `pass` and the contents of memory.
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
