#include "core/device/cuda_context.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace strake {

namespace {

// Null if there is none.
absl::StatusOr<const ProductTuning*> TuningOf(int device, absl::Span<const ProductTuning> tunings) {
  if (tunings.empty()) return nullptr;
  STRAKE_ASSIGN_OR_RETURN(const CudaDevice gpu, DescribeCudaDevice(device));
  const auto found = std::find_if(tunings.begin(), tunings.end(), [&](const ProductTuning& tuning) {
    return tuning.gpu == gpu.name;
  });
  return found == tunings.end() ? nullptr : &*found;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaContext>> CudaContext::Create(
    int device, absl::Span<const ProductTuning> tunings) {
  std::unique_ptr<CudaContext> context(new CudaContext());
  STRAKE_RETURN_IF_ERROR(SetCudaDevice(device));
  context->device_ = device;
  STRAKE_ASSIGN_OR_RETURN(context->stream_, CudaOwnStream::Create());
  STRAKE_ASSIGN_OR_RETURN(const ProductTuning* tuning, TuningOf(device, tunings));
  STRAKE_ASSIGN_OR_RETURN(context->cublaslt_, CublasLt::Create(tuning));
  context->cudnn_attention_ = CudnnAttention::Create(device);
  return context;
}

}  // namespace strake
