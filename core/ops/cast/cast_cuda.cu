// Memory traffic: x is read once and y written once; CastAdd() also reads y once.
#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cast/cast_cuda.h"
#include "core/ops/cuda/elementwise.h"

namespace strake::cuda {
namespace {

struct Identity {
  __device__ float operator()(float x) const { return x; }
};

struct Sum {
  __device__ float operator()(float y, float x) const { return y + x; }
};

}  // namespace

absl::Status CastToBf16(CudaStream stream, const CastToBf16Args& args) {
  return Elementwise(stream, Identity(), args.size, args.y, args.x);
}

absl::Status CastFromBf16(CudaStream stream, const CastFromBf16Args& args) {
  return Elementwise(stream, Identity(), args.size, args.y, args.x);
}

absl::Status CastAdd(CudaStream stream, const CastAddArgs& args) {
  return Elementwise(stream, Sum(), args.size, args.y, args.y, args.x);
}

STRAKE_CAST_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
