// Memory traffic: x is read once.
#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/block_sum_to_first.h"
#include "core/ops/sum/sum_cuda.h"

namespace strake::cuda {
namespace {

constexpr int kThreads = 1024;

template <typename T>
__global__ void __launch_bounds__(kThreads) AddSumKernel(const T* x, int64_t size, double* total) {
  __shared__ Shared<double, kThreads / kWarpSize> sums;
  double sum = 0;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < size; i += kThreads) sum += x[i];
  sum = BlockSumToFirst(sum, sums + 0);
  if (threadIdx.x == 0) *total += sum;
}

}  // namespace

template <typename T>
absl::Status AddSum(CudaStream stream, const AddSumArgs<T>& args) {
  if (args.size == 0) return absl::OkStatus();
  return Launch<AddSumKernel<T>>(stream, 1, kThreads, 0, args.x, args.size, args.total);
}

STRAKE_SUM_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
