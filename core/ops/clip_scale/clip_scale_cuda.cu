#include "core/base/exact_sum.h"
#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/clip_scale/clip_scale_cuda.h"

namespace strake::cuda {
namespace {

// Performs the operations of core/ops/clip_scale/clip_scale.cc in their order.
__global__ void ClipScaleKernel(const int64_t* sum, const double* grad_scale, double clip_norm,
                                double* clip) {
  const double grads = grad_scale == nullptr ? 1 : *grad_scale;
  const double norm = grads * sqrt(ExactSumToDouble(sum));
  const double scale = clip_norm / (norm + 1e-6);
  clip[0] = norm;
  clip[1] = grads * (clip_norm == 0 || scale > 1 ? 1 : scale);
}

}  // namespace

absl::Status ClipScale(CudaStream stream, const ClipScaleArgs& args) {
  return Launch<ClipScaleKernel>(stream, 1, 1, 0, args.sum, args.grad_scale, args.clip_norm,
                                 args.clip);
}

STRAKE_CLIP_SCALE_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
