// Memory traffic: each kernel reads the logits once from HBM, and the backward kernels write them
// once. A block processes a row. What it reads a second time is in shared memory (100 KB of bf16
// for a vocabulary of 50257), or, of longer rows, in L2.
#include "core/base/no_target.h"
#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy_cuda.h"

namespace strake::cuda {
namespace {

constexpr int kMaxThreads = 512;
// The kernel that reads a row twice. Two blocks on a multiprocessor leave each thread 48
// registers. The bytes of a row that stay in shared memory are what every GPU since sm_80 has for a
// block, less the static ones; they also limit the blocks to two, so that what they read a second
// time stays in L2.
constexpr int kWholeThreads = 640, kWholeBlocks = 2;
constexpr int kKeptBytes = (99 << 10) - 512;
constexpr float kLog2E = 1.44269504f;

// The shape of a row of logits: which tokens its columns stand for.
struct RowShape {
  int columns, num_tokens;
  int64_t begin, vocab_size;
};

// The place of a target: its column, or -1 if it is in another slice; or it is no token at all.
struct Target {
  __device__ Target(const RowShape& shape, int token)
      : none(token == kNoTarget),
        valid(none || (token >= 0 && token < shape.vocab_size)),
        column(token >= shape.begin && token - shape.begin < shape.num_tokens
                   ? static_cast<int>(token - shape.begin)
                   : -1) {}
  bool none, valid;
  int column;
};

// e^x; exp2f is one instruction and, after the rounding of the product, exact to 2 units.
__device__ __forceinline__ float Exp(float x) { return exp2f(x * kLog2E); }

__host__ __device__ constexpr int NumVectors(int size, int width) {
  return (size + width - 1) / width;
}

// Calls visit(load(v), v) for all vectors v of a row that hold one of its first `size` elements.
// Each thread visits in order, with kInFlight loads before each kInFlight visits. Two calls visit a
// vector by the same thread.
template <int kWidth, int kInFlight, typename Load, typename Visit>
__device__ __forceinline__ void ForEachVec(int size, const Load& load, const Visit& visit) {
  const int vectors = NumVectors(size, kWidth), step = blockDim.x;
  for (int begin = threadIdx.x; begin < vectors; begin += kInFlight * step) {
    decltype(load(0)) values[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int v = begin + k * step;
      if (v < vectors) values[k] = load(v);
    }
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int v = begin + k * step;
      if (v < vectors) visit(values[k], v);
    }
  }
}

// The same, of a row in memory.
template <int kWidth, typename T, typename Visit>
__device__ __forceinline__ void ForEachVec(const T* row, int size, const Visit& visit) {
  const auto load = [&](int v) { return LoadVec<kWidth>(row + v * kWidth); };
  ForEachVec<kWidth, 4>(size, load, visit);
}

// Converts to floats, with -infinity for padding, so that it takes no part in a maximum or a sum.
template <typename T, int kWidth>
__device__ __forceinline__ Vec<float, kWidth> TokensOf(const Vec<T, kWidth>& value, int v,
                                                       int num_tokens) {
  Vec<float, kWidth> tokens;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    tokens.at[i] = v * kWidth + i < num_tokens ? ToFloat(value.at[i]) : -INFINITY;
  }
  return tokens;
}

template <int kWidth>
__device__ __forceinline__ float VecMax(const Vec<float, kWidth>& value) {
  float max = value.at[0];
#pragma unroll
  for (int i = 1; i < kWidth; ++i) max = fmaxf(max, value.at[i]);
  return max;
}

// Like BlockSum, for the maximum.
template <typename SharedFloats>
__device__ float BlockMax(float value, SharedFloats maxima) {
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const auto warp_max = [](float max) {
#pragma unroll
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
      max = fmaxf(max, __shfl_xor_sync(kWholeWarp, max, distance));
    }
    return max;
  };
  value = warp_max(value);
  if (lane == 0) maxima[warp] = value;
  __syncthreads();
  value = -INFINITY;
  if (lane < blockDim.x / kWarpSize) value = maxima[lane];
  return warp_max(value);
}

// The largest of some numbers, and the sum of exp(number - largest).
struct MaxAndSum {
  float max = -INFINITY, sum = 0;

  template <int kWidth>
  __device__ __forceinline__ void Add(const Vec<float, kWidth>& values) {
    MoveTo(fmaxf(max, VecMax(values)));
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum += Exp(values.at[i] - Shift());
  }
  __device__ __forceinline__ void MoveTo(float new_max) {
    if (new_max == max) return;
    sum *= Exp(max - new_max);
    max = new_max;
  }
  // Avoids -infinity - -infinity as long as there is no number.
  __device__ __forceinline__ float Shift() const { return max == -INFINITY ? 0 : max; }
};

// The slope of a soft cap c as a function of its result z, 1 - (z / c)^2, without cancellation.
struct Capped {
  float cap, inverse_square;
  __device__ float Times(float gradient, float z) const {
    return gradient * ((cap - z) * (cap + z) * inverse_square);
  }
};
struct NotCapped {
  __device__ float Times(float gradient, float) const { return gradient; }
};

// Calls launch(cap) with the type that a softcap needs.
template <typename LaunchCap>
absl::Status LaunchCapped(float softcap, const LaunchCap& launch) {
  return softcap == 0 ? launch(NotCapped()) : launch(Capped{softcap, 1 / (softcap * softcap)});
}

// Writes the gradient of a row whose vectors load(v) gives. With more than two loads before the
// first store, registers would halve the number of threads.
template <int kWidth, typename Cap, typename Load, typename T>
__device__ __forceinline__ void WriteGradient(const RowShape& shape, const Target& target,
                                              float lse, float scale, const Cap& cap,
                                              const Load& load, T* row) {
  if (!target.valid) lse = NAN;
  const int num_gradients = target.none ? 0 : shape.num_tokens;
  ForEachVec<kWidth, 2>(shape.columns, load, [&](const Vec<T, kWidth>& value, int v) {
    const Vec<float, kWidth> tokens = TokensOf(value, v, shape.num_tokens);
    Vec<T, kWidth> gradient;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const int column = v * kWidth + i;
      float softmax = Exp(tokens.at[i] - lse);
      if (column == target.column) softmax -= 1;
      gradient.at[i] =
          FromFloat<T>(column < num_gradients ? cap.Times(scale * softmax, tokens.at[i]) : 0);
    }
    StoreVec(row + v * kWidth, gradient);
  });
}

// Block n processes row n. With kBackward, the gradient overwrites the row, of which the first
// num_kept vectors stay in shared memory meanwhile.
template <typename T, int kWidth, bool kBackward, typename Cap>
__global__ void __launch_bounds__(kWholeThreads, kWholeBlocks)
    SoftmaxCrossEntropyKernel(RowShape shape, int num_kept, const int32_t* targets, float scale,
                              Cap cap, T* logits, float* loss, float* lse) {
  __shared__ Shared<float, kMaxBlockWarps> maxima;
  __shared__ Shared<float, kMaxBlockWarps> sums;
  T* const row = logits + int64_t{blockIdx.x} * shape.columns;
  const auto kept = DynamicShared<T>();
  MaxAndSum part;
  ForEachVec<kWidth>(row, shape.num_tokens, [&](const Vec<T, kWidth>& value, int v) {
    if (kBackward && v < num_kept) StoreVec(kept + v * kWidth, value);
    part.Add(TokensOf(value, v, shape.num_tokens));
  });
  const Target target(shape, targets[blockIdx.x]);
  // Read before the last barrier, because the row is overwritten after it.
  const float target_logit = target.column < 0 ? NAN : ToFloat(row[target.column]);
  part.MoveTo(BlockMax(part.max, maxima + 0));
  const float log_sum = logf(BlockSum(part.sum, sums + 0));
  const float row_lse = part.max + log_sum;
  if (threadIdx.x == 0) {
    lse[blockIdx.x] = row_lse;
    loss[blockIdx.x] = target.none ? 0 : log_sum - (target_logit - part.max);
  }
  if constexpr (kBackward) {
    const auto load = [&](int v) {
      return v < num_kept ? LoadVec<kWidth>(kept + v * kWidth) : LoadVec<kWidth>(row + v * kWidth);
    };
    WriteGradient<kWidth>(shape, target, row_lse, scale, cap, load, row);
  }
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kMaxThreads)
    SoftmaxSliceMaxKernel(RowShape shape, const T* logits, float* max) {
  __shared__ Shared<float, kMaxBlockWarps> maxima;
  float part = -INFINITY;
  ForEachVec<kWidth>(logits + int64_t{blockIdx.x} * shape.columns, shape.num_tokens,
                     [&](const Vec<T, kWidth>& value, int v) {
                       part = fmaxf(part, VecMax(TokensOf(value, v, shape.num_tokens)));
                     });
  part = BlockMax(part, maxima + 0);
  if (threadIdx.x == 0) max[blockIdx.x] = part;
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kMaxThreads)
    SoftmaxSliceSumsKernel(RowShape shape, const T* logits, const int32_t* targets,
                           const float* max, float* exp_sums, float* shifted_targets) {
  __shared__ Shared<float, kMaxBlockWarps> sums;
  const T* const row = logits + int64_t{blockIdx.x} * shape.columns;
  const float shift = max[blockIdx.x];
  float sum = 0;
  ForEachVec<kWidth>(row, shape.num_tokens, [&](const Vec<T, kWidth>& value, int v) {
    const Vec<float, kWidth> tokens = TokensOf(value, v, shape.num_tokens);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum += Exp(tokens.at[i] - shift);
  });
  sum = BlockSum(sum, sums + 0);
  if (threadIdx.x != 0) return;
  const Target target(shape, targets[blockIdx.x]);
  const float own = target.column < 0 ? 0 : ToFloat(row[target.column]) - shift;
  exp_sums[blockIdx.x] = sum;
  shifted_targets[blockIdx.x] = target.valid ? own : NAN;
}

__global__ void FromSumsKernel(const int32_t* targets, const float* max, const float* exp_sums,
                               const float* shifted_targets, int rows, float* loss, float* lse) {
  const int64_t n = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (n >= rows) return;
  const float log_sum = logf(exp_sums[n]);
  lse[n] = max[n] + log_sum;
  loss[n] = targets[n] == kNoTarget ? 0 : log_sum - shifted_targets[n];
}

template <typename T, int kWidth, typename Cap>
__global__ void __launch_bounds__(kMaxThreads)
    SoftmaxCrossEntropyBackwardKernel(RowShape shape, const int32_t* targets, const float* lse,
                                      float scale, Cap cap, T* logits) {
  T* const row = logits + int64_t{blockIdx.x} * shape.columns;
  WriteGradient<kWidth>(
      shape, Target(shape, targets[blockIdx.x]), lse[blockIdx.x], scale, cap,
      [&](int v) { return LoadVec<kWidth>(row + v * kWidth); }, row);
}

// One block per row, of at most `most` threads.
int BlockThreads(int64_t vectors, int most = kMaxThreads) {
  const int64_t threads = (vectors + kWarpSize - 1) / kWarpSize * kWarpSize;
  return threads < kWarpSize ? kWarpSize : threads < most ? threads : most;
}

RowShape ShapeOf(int64_t columns, const VocabSlice& slice) {
  return {static_cast<int>(columns), static_cast<int>(slice.NumTokens(columns)), slice.begin,
          slice.vocab_size};
}

template <bool kBackward, typename T, typename Cap>
absl::Status Whole(CudaStream stream, const SoftmaxCrossEntropyForwardBackwardArgs<T>& args,
                   const Cap& cap) {
  if (args.rows == 0) return absl::OkStatus();
  const VocabSlice vocabulary{args.vocab_size};
  return LaunchVectorized<T>(Vectorizes<T>(args.columns, {args.logits}), [&]<int kWidth>() {
    constexpr int kVecSize = kWidth * sizeof(T);
    const RowShape shape = ShapeOf(args.columns, vocabulary);
    const int num_kept =
        kBackward ? min(NumVectors(shape.num_tokens, kWidth), kKeptBytes / kVecSize) : 0;
    return Launch<SoftmaxCrossEntropyKernel<T, kWidth, kBackward, Cap>>(
        stream, args.rows, BlockThreads(args.columns / kWidth, kWholeThreads), num_kept * kVecSize,
        shape, num_kept, args.targets, args.scale, cap, args.logits, args.loss, args.lse);
  });
}

}  // namespace

template <typename T>
absl::Status SoftmaxCrossEntropyForward(CudaStream stream,
                                        const SoftmaxCrossEntropyForwardArgs<T>& args) {
  // Without kBackward, logits are only read.
  return Whole<false, T>(stream,
                         {.targets = args.targets,
                          .rows = args.rows,
                          .columns = args.columns,
                          .vocab_size = args.vocab_size,
                          .scale = 0,
                          .softcap = 0,
                          .logits = const_cast<T*>(args.logits),
                          .loss = args.loss,
                          .lse = args.lse},
                         NotCapped());
}

template <typename T>
absl::Status SoftmaxCrossEntropyForwardBackward(
    CudaStream stream, const SoftmaxCrossEntropyForwardBackwardArgs<T>& args) {
  return LaunchCapped(args.softcap,
                      [&](const auto& cap) { return Whole<true>(stream, args, cap); });
}

template <typename T>
absl::Status SoftmaxSliceMax(CudaStream stream, const SoftmaxSliceMaxArgs<T>& args) {
  if (args.rows == 0) return absl::OkStatus();
  return LaunchVectorized<T>(Vectorizes<T>(args.columns, {args.logits}), [&]<int kWidth>() {
    return Launch<SoftmaxSliceMaxKernel<T, kWidth>>(
        stream, args.rows, BlockThreads(args.columns / kWidth), 0,
        ShapeOf(args.columns, args.slice), args.logits, args.max);
  });
}

template <typename T>
absl::Status SoftmaxSliceSums(CudaStream stream, const SoftmaxSliceSumsArgs<T>& args) {
  if (args.rows == 0) return absl::OkStatus();
  return LaunchVectorized<T>(Vectorizes<T>(args.columns, {args.logits}), [&]<int kWidth>() {
    return Launch<SoftmaxSliceSumsKernel<T, kWidth>>(
        stream, args.rows, BlockThreads(args.columns / kWidth), 0,
        ShapeOf(args.columns, args.slice), args.logits, args.targets, args.max, args.sums,
        args.sums + args.rows);
  });
}

absl::Status SoftmaxCrossEntropyFromSums(CudaStream stream,
                                         const SoftmaxCrossEntropyFromSumsArgs& args) {
  if (args.rows == 0) return absl::OkStatus();
  return Launch<FromSumsKernel>(stream, (args.rows + kMaxThreads - 1) / kMaxThreads, kMaxThreads, 0,
                                args.targets, args.max, args.sums, args.sums + args.rows, args.rows,
                                args.loss, args.lse);
}

template <typename T>
absl::Status SoftmaxCrossEntropyBackward(CudaStream stream,
                                         const SoftmaxCrossEntropyBackwardArgs<T>& args) {
  if (args.rows == 0) return absl::OkStatus();
  return LaunchVectorized<T>(Vectorizes<T>(args.columns, {args.logits}), [&]<int kWidth>() {
    return LaunchCapped(args.softcap, [&]<typename Cap>(const Cap& cap) {
      return Launch<SoftmaxCrossEntropyBackwardKernel<T, kWidth, Cap>>(
          stream, args.rows, BlockThreads(args.columns / kWidth), 0,
          ShapeOf(args.columns, args.slice), args.targets, args.lse, args.scale, cap, args.logits);
    });
  });
}

STRAKE_SOFTMAX_CROSS_ENTROPY_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
