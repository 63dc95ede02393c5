#include "core/device/cuda_context.h"

#include "core/base/status_macros.h"

namespace strake {

absl::StatusOr<std::unique_ptr<CudaContext>> CudaContext::Create(int device) {
  std::unique_ptr<CudaContext> context(new CudaContext());
  STRAKE_RETURN_IF_ERROR(SetCudaDevice(device));
  context->device_ = device;
  STRAKE_ASSIGN_OR_RETURN(context->stream_, CudaOwnStream::Create());
  STRAKE_ASSIGN_OR_RETURN(context->cublaslt_, CublasLt::Create());
  context->cudnn_attention_ = CudnnAttention::Create(device);
  return context;
}

}  // namespace strake
