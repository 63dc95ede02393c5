#include "train/engine/cuda_step.h"

#include <algorithm>
#include <cstring>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {

absl::StatusOr<BatchUpload> BatchUpload::Create(int64_t num_tokens) {
  BatchUpload upload;
  STRAKE_ASSIGN_OR_RETURN(upload.batch_,
                          DeviceBuffer::Create(Device::kCuda, DType::kI32, {2, num_tokens}));
  for (Slot& slot : upload.slots_) {
    STRAKE_ASSIGN_OR_RETURN(slot.memory,
                            PinnedMemory::Allocate(upload.batch_.tensor().num_bytes()));
    STRAKE_ASSIGN_OR_RETURN(slot.copied, CudaEvent::Create());
  }
  return upload;
}

absl::StatusOr<std::pair<Tensor, Tensor>> BatchUpload::Upload(Communicator& group,
                                                              CudaStream stream,
                                                              const Tensor& tokens,
                                                              const Tensor& targets) {
  const int64_t n = tokens.num_elements();
  CHECK(tokens.dtype() == DType::kI32 && targets.dtype() == DType::kI32 &&
        targets.num_elements() == n && n <= batch_.tensor().dim(1))
      << "[batch_upload] tokens " << tokens.ToString() << ", targets " << targets.ToString()
      << ", at most " << batch_.tensor().dim(1);
  Slot& slot = slots_[next_slot_];
  next_slot_ = (next_slot_ + 1) % slots_.size();
  STRAKE_RETURN_IF_ERROR(group.WaitForEvent(slot.copied));
  char* const pinned = static_cast<char*>(slot.memory.data());
  std::memcpy(pinned, tokens.raw(), tokens.num_bytes());
  std::memcpy(pinned + tokens.num_bytes(), targets.raw(), targets.num_bytes());
  const Tensor both = batch_.tensor().Reshape({batch_.tensor().num_elements()}).Rows(0, 2 * n);
  STRAKE_RETURN_IF_ERROR(CopyToDevice(both.raw(), pinned, both.num_bytes(), stream));
  STRAKE_RETURN_IF_ERROR(slot.copied.Record(stream));
  return std::pair(both.Rows(0, n), both.Rows(n, 2 * n));
}

absl::Status PassGraphs::Run(CudaStream stream, const EnginePass& pass,
                             absl::FunctionRef<absl::Status()> enqueue) {
  const auto seen = std::find_if(passes_.begin(), passes_.end(),
                                 [&](const SeenPass& other) { return other.pass == pass; });
  if (seen == passes_.end()) {
    passes_.push_back({pass, std::nullopt});
    return enqueue();
  }
  if (!seen->graph.has_value()) {
    STRAKE_ASSIGN_OR_RETURN(CudaGraph recorded, CudaGraph::Capture(stream, enqueue));
    seen->graph.emplace(std::move(recorded));
  }
  return seen->graph->Launch(stream);
}

}  // namespace strake
