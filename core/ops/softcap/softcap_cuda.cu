#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/elementwise.h"
#include "core/ops/softcap/softcap_cuda.h"

namespace strake::cuda {
namespace {

struct Cap {
  float cap, inverse;
  __device__ float operator()(float x) const { return cap * tanhf(x * inverse); }
};

}  // namespace

template <typename T>
absl::Status Softcap(CudaStream stream, const SoftcapArgs<T>& args) {
  return Elementwise(stream, Cap{args.cap, 1 / args.cap}, args.size, args.y, args.x);
}

STRAKE_SOFTCAP_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
