#include "train/engine/cuda_step.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {

absl::StatusOr<BatchUpload> BatchUpload::Create(int64_t num_tokens, bool documents) {
  BatchUpload upload;
  const int64_t rows = documents ? 3 : 2;
  STRAKE_ASSIGN_OR_RETURN(upload.batch_,
                          DeviceBuffer::Create(Device::kCuda, DType::kI32, {rows, num_tokens}));
  for (Slot& slot : upload.slots_) {
    STRAKE_ASSIGN_OR_RETURN(slot.memory,
                            PinnedMemory::Allocate(upload.batch_.tensor().num_bytes()));
    STRAKE_ASSIGN_OR_RETURN(slot.copied, CudaEvent::Create());
  }
  return upload;
}

absl::StatusOr<TokenPlace> BatchUpload::Upload(Communicator& group, CudaStream stream,
                                               const Tensor& tokens, const Tensor& targets,
                                               const Tensor& positions) {
  const int64_t n = tokens.num_elements(), rows = batch_.tensor().dim(0);
  const auto fits = [n](const Tensor& x) {
    return x.dtype() == DType::kI32 && x.num_elements() == n;
  };
  CHECK(fits(tokens) && fits(targets) && positions.defined() == (rows == 3) &&
        (!positions.defined() || fits(positions)) && n <= batch_.tensor().dim(1))
      << "[batch_upload] tokens " << tokens.ToString() << ", targets " << targets.ToString()
      << ", positions " << positions.ToString() << ", to " << batch_.tensor().ToString();
  Slot& slot = slots_[next_slot_];
  next_slot_ = (next_slot_ + 1) % slots_.size();
  STRAKE_RETURN_IF_ERROR(group.WaitForEvent(slot.copied));
  auto* const pinned = static_cast<int32_t*>(slot.memory.data());
  std::memcpy(pinned, tokens.raw(), tokens.num_bytes());
  std::memcpy(pinned + n, targets.raw(), targets.num_bytes());
  if (positions.defined()) std::memcpy(pinned + 2 * n, positions.raw(), positions.num_bytes());
  auto* const batch = batch_.tensor().data<int32_t>();
  STRAKE_RETURN_IF_ERROR(CopyToDevice(batch, pinned, rows * n * sizeof(int32_t), stream));
  STRAKE_RETURN_IF_ERROR(slot.copied.Record(stream));
  return TokenPlace{.tokens = batch,
                    .targets = batch + n,
                    .num_tokens = n,
                    .positions = positions.defined() ? batch + 2 * n : nullptr,
                    .has_documents = positions.defined()};
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
