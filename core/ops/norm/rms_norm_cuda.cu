#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/row_blocks.h"
#include "core/ops/cuda/sum_partials.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/norm/rms_norm_cuda.h"

namespace strake::cuda {
namespace {

// One block per row.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kRowBlockThreads)
    RmsNormForwardKernel(const T* x, const T* residual, const T* weight, int columns, float eps,
                         float weight_offset, T* sum, T* y, float* rstd) {
  __shared__ Shared<float, kMaxBlockWarps> sums;
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

  float squares = 0;
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
    for (int i = 0; i < kWidth; ++i) squares += ToFloat(value.at[i]) * ToFloat(value.at[i]);
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

  const float scale = rsqrtf(BlockSum(squares, sums) / columns + eps);
  if (threadIdx.x == 0) rstd[blockIdx.x] = scale;
  const auto store = [&](Vec<T, kWidth> value, int v) {
    const Vec<T, kWidth> w = LoadVec<kWidth>(weight + v * kWidth);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      value.at[i] = FromFloat<T>(ToFloat(value.at[i]) * scale * (weight_offset + ToFloat(w.at[i])));
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

// sum_i dy_i (weight_offset + w_i) x_i
template <typename T, int kWidth>
__device__ __forceinline__ float Dot(const Vec<T, kWidth>& dy, const Vec<T, kWidth>& x,
                                     const Vec<T, kWidth>& w, float weight_offset) {
  float dot = 0;
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    dot += ToFloat(dy.at[i]) * (weight_offset + ToFloat(w.at[i])) * ToFloat(x.at[i]);
  return dot;
}

// Block b of B blocks processes rows b, b + B, b + 2 B, ... It writes the sum of their terms of
// dweight to partials[b, :].
template <typename T, int kWidth>
__global__ void __launch_bounds__(kRowBlockThreads)
    RmsNormBackwardKernel(const T* dy, const T* x, const T* weight, const float* rstd, int rows,
                          int columns, float weight_offset, bool accumulate_dx, T* dx,
                          float* partials) {
  // Rows alternate between the halves, so that one barrier per row is enough.
  __shared__ Shared<float, 2 * kMaxBlockWarps> sums;
  const int vectors = columns / kWidth;
  const int step = blockDim.x;
  float* const partial = partials + int64_t{blockIdx.x} * columns;

  Vec<T, kWidth> w[kResident] = {};
  Vec<float, kWidth> dw[kResident] = {};
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
    const float scale = rstd[row];

    float dot = 0;
#pragma unroll
    for (int k = 0; k < kResident; ++k) dot += Dot(part.dy[k], part.x[k], w[k], weight_offset);
    for (int v = threadIdx.x + kResident * step; v < vectors; v += step) {
      dot += Dot(LoadVec<kWidth>(dy + at + v * kWidth), LoadVec<kWidth>(x + at + v * kWidth),
                 LoadVec<kWidth>(weight + v * kWidth), weight_offset);
    }
    dot = BlockSum(dot, sums + half * kMaxBlockWarps);
    const float x_factor = scale * scale * dot / columns;

    const auto finish = [&](const Vec<T, kWidth>& g, const Vec<T, kWidth>& value,
                            const Vec<T, kWidth>& weights, int v, Vec<float, kWidth>& terms) {
      T* const to = dx + at + v * kWidth;
      Vec<T, kWidth> result = {};
      if (dx != nullptr && accumulate_dx) result = LoadVec<kWidth>(to);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float gradient = ToFloat(g.at[i]), input = ToFloat(value.at[i]);
        const float term =
            scale * (gradient * (weight_offset + ToFloat(weights.at[i])) - input * x_factor);
        result.at[i] = FromFloat<T>(accumulate_dx ? ToFloat(result.at[i]) + term : term);
        terms.at[i] += gradient * input * scale;
      }
      if (dx != nullptr) StoreVec(to, result);
    };
#pragma unroll
    for (int k = 0; k < kResident; ++k) {
      const int v = threadIdx.x + k * step;
      if (v < vectors) finish(part.dy[k], part.x[k], w[k], v, dw[k]);
    }
    for (int v = threadIdx.x + kResident * step; v < vectors; v += step) {
      Vec<float, kWidth> terms = {};
      if (row >= gridDim.x) terms = LoadVec<kWidth>(partial + v * kWidth);
      finish(LoadVec<kWidth>(dy + at + v * kWidth), LoadVec<kWidth>(x + at + v * kWidth),
             LoadVec<kWidth>(weight + v * kWidth), v, terms);
      StoreVec(partial + v * kWidth, terms);
    }
  }
#pragma unroll
  for (int k = 0; k < kResident; ++k) {
    const int v = threadIdx.x + k * step;
    if (v < vectors) StoreVec(partial + v * kWidth, dw[k]);
  }
}

}  // namespace

template <typename T>
absl::Status RmsNormForward(CudaStream stream, const RmsNormForwardArgs<T>& args) {
  if (args.rows == 0) return absl::OkStatus();
  const auto launch = [&]<int kWidth>() {
    return Launch<RmsNormForwardKernel<T, kWidth>>(
        stream, args.rows, RowBlockThreads(args.columns / kWidth), 0, args.x, args.residual,
        args.weight, args.columns, static_cast<float>(args.eps),
        static_cast<float>(args.weight_offset), args.sum, args.y, args.rstd);
  };
  return LaunchVectorized<T>(
      Vectorizes<T>(args.columns, {args.x, args.residual, args.weight, args.sum, args.y}), launch);
}

template <typename T>
absl::Status RmsNormBackward(CudaStream stream, const RmsNormBackwardArgs<T>& args) {
  if (args.rows == 0 || args.columns == 0) return absl::OkStatus();
  const int64_t partials = NumRowBlockPartials(args.rows, args.columns, sizeof(T));
  const auto launch = [&]<int kWidth>() {
    return Launch<RmsNormBackwardKernel<T, kWidth>>(
        stream, partials, RowBlockThreads(args.columns / kWidth), 0, args.dy, args.x, args.weight,
        args.rstd, args.rows, args.columns, static_cast<float>(args.weight_offset),
        args.accumulate_dx, args.dx, args.workspace);
  };
  const absl::Status launched = LaunchVectorized<T>(
      Vectorizes<T>(args.columns, {args.dy, args.x, args.weight, args.dx, args.workspace}), launch);
  if (!launched.ok() || args.dweight == nullptr) return launched;
  return SumPartials(stream, args.workspace, partials, args.columns, args.dweight);
}

STRAKE_RMS_NORM_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
