// One pass: the gradient is read once, weight and moments are read and written once, 28 bytes per
// element, plus 2 for the bf16 weights.
#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/adamw/adamw_cuda.h"
#include "core/ops/cuda/vectorize.h"

namespace strake::cuda {
namespace {

constexpr int kThreads = 256;

// Performs the operations of core/ops/adamw/adamw_reference.h in their order. It calls fmaf where a
// compiler could choose which of two products to fuse, and choose differently in different places.
struct Element {
  float weight, exp_avg, exp_avg_sq;

  __device__ __forceinline__ void Update(const AdamWScalars<float>& s, float grad_scale,
                                         float grad) {
    const float g = grad_scale * grad;
    exp_avg = s.one_minus_beta1 < 0.5f ? exp_avg + s.one_minus_beta1 * (g - exp_avg)
                                       : g - (g - exp_avg) * s.beta1;
    exp_avg_sq = fmaf(s.one_minus_beta2 * g, g, s.beta2 * exp_avg_sq);
    const float denominator = sqrtf(exp_avg_sq) / s.sqrt_correction2 + s.eps;
    weight = s.decay * weight - s.step_size * exp_avg / denominator;
  }
};

// Returns false for NaN, because a NaN compares false.
__device__ __forceinline__ bool Updates(double norm, double scale) {
  return norm < INFINITY && scale > 0 && scale < INFINITY;
}

// Each thread updates kWidth elements; the last thread also updates those after the last whole
// kWidth.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    AdamWKernel(const AdamWScalars<float>* scalars, bool weight_decay, const double* clip,
                const float* grad, int64_t size, float* weight, float* exp_avg, float* exp_avg_sq,
                Bf16* rounded) {
  if (clip != nullptr && !Updates(clip[0], clip[1])) return;
  const float grad_scale = clip == nullptr ? 1 : clip[1];
  AdamWScalars<float> s = *scalars;
  if (!weight_decay) s.decay = 1;
  const int64_t begin = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth;
  if (begin + kWidth <= size) {
    const Vec<float, kWidth> g = LoadVec<kWidth>(grad + begin);
    Vec<float, kWidth> w = LoadVec<kWidth>(weight + begin);
    Vec<float, kWidth> m = LoadVec<kWidth>(exp_avg + begin);
    Vec<float, kWidth> v = LoadVec<kWidth>(exp_avg_sq + begin);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      Element element = {w.at[i], m.at[i], v.at[i]};
      element.Update(s, grad_scale, g.at[i]);
      w.at[i] = element.weight;
      m.at[i] = element.exp_avg;
      v.at[i] = element.exp_avg_sq;
    }
    StoreVec(weight + begin, w);
    StoreVec(exp_avg + begin, m);
    StoreVec(exp_avg_sq + begin, v);
    if (rounded == nullptr) return;
    Vec<Bf16, kWidth> values;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values.at[i] = FromFloat<Bf16>(w.at[i]);
    StoreVec(rounded + begin, values);
    return;
  }
  for (int64_t i = begin; i < size; ++i) {
    Element element = {weight[i], exp_avg[i], exp_avg_sq[i]};
    element.Update(s, grad_scale, grad[i]);
    weight[i] = element.weight;
    exp_avg[i] = element.exp_avg;
    exp_avg_sq[i] = element.exp_avg_sq;
    if (rounded != nullptr) rounded[i] = FromFloat<Bf16>(element.weight);
  }
}

}  // namespace

absl::Status AdamWUpdate(CudaStream stream, const AdamWUpdateArgs& args) {
  if (args.size == 0) return absl::OkStatus();
  const bool vectorizes =
      Vectorizes<float>(0, {args.grad, args.weight, args.exp_avg, args.exp_avg_sq, args.rounded});
  return LaunchVectorized<float>(vectorizes, [&]<int kWidth>() {
    constexpr int kBlock = kThreads * kWidth;
    return Launch<AdamWKernel<kWidth>>(
        stream, (args.size + kBlock - 1) / kBlock, kThreads, 0, args.scalars, args.weight_decay,
        args.clip, args.grad, args.size, args.weight, args.exp_avg, args.exp_avg_sq, args.rounded);
  });
}

STRAKE_ADAMW_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
