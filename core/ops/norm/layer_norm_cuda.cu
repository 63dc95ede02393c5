#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/row_blocks.h"
#include "core/ops/cuda/sum_partials.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/norm/layer_norm_cuda.h"

namespace strake::cuda {
namespace {

// One block per row.
// Memory traffic: x and the residual are read once, sum and y written once; weight and bias come
// from L2.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kRowBlockThreads)
    LayerNormForwardKernel(const T* x, const T* residual, const T* weight, const T* bias,
                           int columns, float eps, T* sum, T* y, float* mean, float* rstd) {
  __shared__ Shared<float, 2 * kMaxBlockWarps> sums;
  const int64_t row = int64_t{blockIdx.x} * columns;
  const int vectors = columns / kWidth;
  const int step = blockDim.x;
  const T* source = residual == nullptr ? x : sum;  // of what does not fit in registers

  Vec<T, kWidth> kept[kResident] = {}, added[kResident] = {};
#pragma unroll
  for (int k = 0; k < kResident; ++k) {
    const int v = threadIdx.x + k * step;
    if (v >= vectors) continue;
    kept[k] = LoadVec<kWidth>(x + row + v * kWidth);
    if (residual != nullptr) added[k] = LoadVec<kWidth>(residual + row + v * kWidth);
  }

  float total = 0;
  // Returns x + residual, and stores it; or returns x.
  const auto sum_of = [&](Vec<T, kWidth> value, const Vec<T, kWidth>& other, int v) {
    if (residual != nullptr) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        value.at[i] = FromFloat<T>(ToFloat(value.at[i]) + ToFloat(other.at[i]));
      }
      StoreVec(sum + row + v * kWidth, value);
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) total += ToFloat(value.at[i]);
    return value;
  };
#pragma unroll
  for (int k = 0; k < kResident; ++k) {
    const int v = threadIdx.x + k * step;
    if (v < vectors) kept[k] = sum_of(kept[k], added[k], v);
  }
  for (int v = threadIdx.x + kResident * step; v < vectors; v += step) {
    Vec<T, kWidth> other = {};
    if (residual != nullptr) other = LoadVec<kWidth>(residual + row + v * kWidth);
    sum_of(LoadVec<kWidth>(x + row + v * kWidth), other, v);
  }
  const float center = BlockSum(total, sums + 0) / columns;

  // Sums squares of differences: mean(x^2) - mean^2 would lose the variance of a row far from 0.
  float squares = 0;
  const auto add_squares = [&](const Vec<T, kWidth>& value) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float difference = ToFloat(value.at[i]) - center;
      squares += difference * difference;
    }
  };
#pragma unroll
  for (int k = 0; k < kResident; ++k) {
    if (threadIdx.x + k * step < vectors) add_squares(kept[k]);
  }
  for (int v = threadIdx.x + kResident * step; v < vectors; v += step) {
    add_squares(LoadVec<kWidth>(source + row + v * kWidth));
  }
  const float scale = rsqrtf(BlockSum(squares, sums + kMaxBlockWarps) / columns + eps);
  if (threadIdx.x == 0) {
    mean[blockIdx.x] = center;
    rstd[blockIdx.x] = scale;
  }

  const auto store = [&](Vec<T, kWidth> value, int v) {
    const Vec<T, kWidth> w = LoadVec<kWidth>(weight + v * kWidth);
    const Vec<T, kWidth> b = LoadVec<kWidth>(bias + v * kWidth);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float normalized = (ToFloat(value.at[i]) - center) * scale;
      value.at[i] = FromFloat<T>(normalized * ToFloat(w.at[i]) + ToFloat(b.at[i]));
    }
    StoreVec(y + row + v * kWidth, value);
  };
#pragma unroll
  for (int k = 0; k < kResident; ++k) {
    const int v = threadIdx.x + k * step;
    if (v < vectors) store(kept[k], v);
  }
  for (int v = threadIdx.x + kResident * step; v < vectors; v += step) {
    store(LoadVec<kWidth>(source + row + v * kWidth), v);
  }
}

// Moments of g = dy w: sum g and sum g xhat.
struct Moments {
  float g = 0, g_xhat = 0;
};

template <typename T, int kWidth>
__device__ __forceinline__ void AddMoments(const Vec<T, kWidth>& dy, const Vec<T, kWidth>& x,
                                           const Vec<T, kWidth>& w, float center, float scale,
                                           Moments& moments) {
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const float g = ToFloat(dy.at[i]) * ToFloat(w.at[i]);
    moments.g += g;
    moments.g_xhat += g * ((ToFloat(x.at[i]) - center) * scale);
  }
}

// BlockSum of both, with one barrier. `sums` is shared memory of 2 * kMaxBlockWarps floats.
template <typename SharedFloats>
__device__ Moments BlockSumMoments(Moments value, SharedFloats&& sums) {
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  value = {WarpSum(value.g), WarpSum(value.g_xhat)};
  if (lane == 0) {
    sums[warp] = value.g;
    sums[kMaxBlockWarps + warp] = value.g_xhat;
  }
  __syncthreads();
  value = {};
  if (lane < blockDim.x / kWarpSize) value = {sums[lane], sums[kMaxBlockWarps + lane]};
  return {WarpSum(value.g), WarpSum(value.g_xhat)};
}

// Block b of B blocks processes rows b, b + B, b + 2 B, ... It writes the sums of their terms of
// dweight to weight_partials[b, :], and those of dbias to bias_partials[b, :].
// Memory traffic: dy and x are read once and dx is written once (also read with accumulate_dx); the
// rest is in L2.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kRowBlockThreads)
    LayerNormBackwardKernel(const T* dy, const T* x, const T* weight, const float* mean,
                            const float* rstd, int rows, int columns, bool accumulate_dx, T* dx,
                            float* weight_partials, float* bias_partials) {
  // Rows alternate between the halves, so that one barrier per row is enough.
  __shared__ Shared<float, 4 * kMaxBlockWarps> sums;
  const int vectors = columns / kWidth;
  const int step = blockDim.x;
  float* const weight_partial = weight_partials + int64_t{blockIdx.x} * columns;
  float* const bias_partial = bias_partials + int64_t{blockIdx.x} * columns;

  Vec<T, kWidth> w[kResident] = {};
  Vec<float, kWidth> dw[kResident] = {}, db[kResident] = {};
#pragma unroll
  for (int k = 0; k < kResident; ++k) {
    const int v = threadIdx.x + k * step;
    if (v < vectors) w[k] = LoadVec<kWidth>(weight + v * kWidth);
  }

  int64_t at = int64_t{blockIdx.x} * columns;
  RowPart<T, kWidth> next = LoadRow<T, kWidth>(dy + at, x + at, vectors);
  int half = 0;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x, half ^= 1) {
    at = row * columns;
    const RowPart<T, kWidth> part = next;
    if (row + gridDim.x < rows) {  // in flight while this row is reduced
      const int64_t ahead = at + int64_t{gridDim.x} * columns;
      next = LoadRow<T, kWidth>(dy + ahead, x + ahead, vectors);
    }
    const float center = mean[row], scale = rstd[row];

    Moments moments;
#pragma unroll
    for (int k = 0; k < kResident; ++k) {
      if (threadIdx.x + k * step < vectors) {
        AddMoments(part.dy[k], part.x[k], w[k], center, scale, moments);
      }
    }
    for (int v = threadIdx.x + kResident * step; v < vectors; v += step) {
      AddMoments(LoadVec<kWidth>(dy + at + v * kWidth), LoadVec<kWidth>(x + at + v * kWidth),
                 LoadVec<kWidth>(weight + v * kWidth), center, scale, moments);
    }
    moments = BlockSumMoments(moments, sums + half * 2 * kMaxBlockWarps);
    const float mean_g = moments.g / columns, mean_g_xhat = moments.g_xhat / columns;

    const auto finish = [&](const Vec<T, kWidth>& g, const Vec<T, kWidth>& value,
                            const Vec<T, kWidth>& weights, int v, Vec<float, kWidth>& weight_terms,
                            Vec<float, kWidth>& bias_terms) {
      T* const to = dx + at + v * kWidth;
      Vec<T, kWidth> result = {};
      if (dx != nullptr && accumulate_dx) result = LoadVec<kWidth>(to);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float gradient = ToFloat(g.at[i]);
        const float xhat = (ToFloat(value.at[i]) - center) * scale;
        const float term =
            scale * (gradient * ToFloat(weights.at[i]) - mean_g - xhat * mean_g_xhat);
        result.at[i] = FromFloat<T>(accumulate_dx ? ToFloat(result.at[i]) + term : term);
        weight_terms.at[i] += gradient * xhat;
        bias_terms.at[i] += gradient;
      }
      if (dx != nullptr) StoreVec(to, result);
    };
#pragma unroll
    for (int k = 0; k < kResident; ++k) {
      const int v = threadIdx.x + k * step;
      if (v < vectors) finish(part.dy[k], part.x[k], w[k], v, dw[k], db[k]);
    }
    for (int v = threadIdx.x + kResident * step; v < vectors; v += step) {
      Vec<float, kWidth> weight_terms = {}, bias_terms = {};
      if (row >= gridDim.x) {
        weight_terms = LoadVec<kWidth>(weight_partial + v * kWidth);
        bias_terms = LoadVec<kWidth>(bias_partial + v * kWidth);
      }
      finish(LoadVec<kWidth>(dy + at + v * kWidth), LoadVec<kWidth>(x + at + v * kWidth),
             LoadVec<kWidth>(weight + v * kWidth), v, weight_terms, bias_terms);
      StoreVec(weight_partial + v * kWidth, weight_terms);
      StoreVec(bias_partial + v * kWidth, bias_terms);
    }
  }
#pragma unroll
  for (int k = 0; k < kResident; ++k) {
    const int v = threadIdx.x + k * step;
    if (v >= vectors) continue;
    StoreVec(weight_partial + v * kWidth, dw[k]);
    StoreVec(bias_partial + v * kWidth, db[k]);
  }
}

}  // namespace

template <typename T>
absl::Status LayerNormForward(CudaStream stream, const LayerNormForwardArgs<T>& args) {
  if (args.rows == 0) return absl::OkStatus();
  const bool vectorizes = Vectorizes<T>(
      args.columns, {args.x, args.residual, args.weight, args.bias, args.sum, args.y});
  return LaunchVectorized<T>(vectorizes, [&]<int kWidth>() {
    return Launch<LayerNormForwardKernel<T, kWidth>>(
        stream, args.rows, RowBlockThreads(args.columns / kWidth), 0, args.x, args.residual,
        args.weight, args.bias, args.columns, static_cast<float>(args.eps), args.sum, args.y,
        args.mean, args.rstd);
  });
}

template <typename T>
absl::Status LayerNormBackward(CudaStream stream, const LayerNormBackwardArgs<T>& args) {
  if (args.rows == 0 || args.columns == 0) return absl::OkStatus();
  const int64_t partials = NumRowBlockPartials(args.rows, args.columns, sizeof(T));
  float* const bias_partials = args.workspace + partials * args.columns;
  const bool vectorizes =
      Vectorizes<T>(args.columns, {args.dy, args.x, args.weight, args.dx, args.workspace});
  const absl::Status launched = LaunchVectorized<T>(vectorizes, [&]<int kWidth>() {
    return Launch<LayerNormBackwardKernel<T, kWidth>>(
        stream, partials, RowBlockThreads(args.columns / kWidth), 0, args.dy, args.x, args.weight,
        args.mean, args.rstd, args.rows, args.columns, args.accumulate_dx, args.dx, args.workspace,
        bias_partials);
  });
  if (!launched.ok() || args.dweight == nullptr) return launched;
  return SumPartials(stream, args.workspace, partials, args.columns, args.dweight, args.dbias);
}

STRAKE_LAYER_NORM_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
