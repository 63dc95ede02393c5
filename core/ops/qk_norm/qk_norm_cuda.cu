#include <initializer_list>

#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/sum_partials.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/qk_norm/qk_norm_cuda.h"

namespace strake::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 4;  // per multiprocessor: see QkNormBackwardBlocks()

// The threads that share a group of columns: the block where a part is one group, else a warp.
template <bool kWhole>
struct Team {
  __device__ static int Size() { return kWhole ? blockDim.x : kWarpSize; }
  __device__ static int Thread() { return kWhole ? threadIdx.x : threadIdx.x % kWarpSize; }
  __device__ static int Index() { return kWhole ? 0 : threadIdx.x / kWarpSize; }
  __device__ static int Count() { return kWhole ? 1 : blockDim.x / kWarpSize; }

  // The sum over the team; all threads get the same bits. Parts alternate between the halves of
  // `sums`, so that one barrier per part is enough.
  template <typename SharedFloats>
  __device__ static float Sum(float value, int part, SharedFloats&& sums) {
    if constexpr (kWhole) return BlockSum(value, sums + part * kMaxBlockWarps);
    return WarpSum(value);
  }
};

// Calls body(v) for the vectors of a group that the thread processes.
template <bool kWhole, typename Body>
__device__ __forceinline__ void ForEachVector(int vectors, const Body& body) {
  for (int v = Team<kWhole>::Thread(); v < vectors; v += Team<kWhole>::Size()) body(v);
}

// The thread's part of sum_c x_c^2
template <bool kWhole, int kWidth, typename T>
__device__ __forceinline__ float SumSquares(const T* x, int vectors, T* raw) {
  float squares = 0;
  ForEachVector<kWhole>(vectors, [&](int v) {
    const Vec<T, kWidth> value = LoadVec<kWidth>(x + v * kWidth);
    if (raw != nullptr) StoreVec(raw + v * kWidth, value);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) squares += ToFloat(value.at[i]) * ToFloat(value.at[i]);
  });
  return squares;
}

// The thread's part of sum_c dy_c (offset + w_c) x_c
template <bool kWhole, int kWidth, typename T>
__device__ __forceinline__ float WeightedDot(const T* dy, const T* x, const T* weight, float offset,
                                             int vectors) {
  float dot = 0;
  ForEachVector<kWhole>(vectors, [&](int v) {
    const Vec<T, kWidth> g = LoadVec<kWidth>(dy + v * kWidth),
                         value = LoadVec<kWidth>(x + v * kWidth),
                         w = LoadVec<kWidth>(weight + v * kWidth);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      dot += ToFloat(g.at[i]) * (offset + ToFloat(w.at[i])) * ToFloat(value.at[i]);
    }
  });
  return dot;
}

// One block per row.
template <typename T, int kWidth, bool kWhole>
__global__ void __launch_bounds__(kThreads) QkNormForwardKernel(const QkNormForwardArgs<T> args) {
  __shared__ Shared<float, 2 * kMaxBlockWarps> sums;
  const int64_t row = blockIdx.x;
  const float offset = static_cast<float>(args.weight_offset), eps = static_cast<float>(args.eps);
#pragma unroll
  for (int p = 0; p < 2; ++p) {
    const QkNormPart<T>& part = args.parts[p];
    const int size = part.group_columns, vectors = size / kWidth;
    for (int g = Team<kWhole>::Index(); g < part.num_groups; g += Team<kWhole>::Count()) {
      const int column = part.first_column + g * size;
      const int64_t group = row * args.num_groups + part.first_group + g;
      T* const x = args.qkv + row * args.columns + column;
      T* const raw = args.raw == nullptr ? nullptr : args.raw + row * args.num_normalized + column;
      float squares = SumSquares<kWhole, kWidth>(x, vectors, raw);
      if (args.sums != nullptr) {
        squares = args.sums[group];
      } else {
        squares = Team<kWhole>::Sum(squares, p, sums);
      }
      const float scale = rsqrtf(squares / (args.num_ranks * size) + eps);
      if (Team<kWhole>::Thread() == 0) args.rstd[group] = scale;
      ForEachVector<kWhole>(vectors, [&](int v) {
        Vec<T, kWidth> value = LoadVec<kWidth>(x + v * kWidth);
        const Vec<T, kWidth> w = LoadVec<kWidth>(part.weight + v * kWidth);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          value.at[i] = FromFloat<T>(ToFloat(value.at[i]) * scale * (offset + ToFloat(w.at[i])));
        }
        StoreVec(x + v * kWidth, value);
      });
    }
  }
}

// Block b of B blocks processes rows b, b + B, b + 2 B, ... Each of its teams sums the terms of the
// weights' gradients of its groups in shared memory. In the end the block writes the sums of all
// teams to row b of the partials of each part.
template <typename T, int kWidth, bool kWhole>
__global__ void __launch_bounds__(kThreads, kBlocks)
    QkNormBackwardKernel(const QkNormBackwardArgs<T> args) {
  __shared__ Shared<float, 2 * kMaxBlockWarps> sums;
  const auto teams_dw = DynamicShared<float>();
  const int query_columns = args.parts[0].group_columns;
  const int weight_columns = query_columns + args.parts[1].group_columns;
  const auto dw = teams_dw + Team<kWhole>::Index() * weight_columns;
  const float offset = static_cast<float>(args.weight_offset);
  ForEachVector<kWhole>(weight_columns / kWidth,
                        [&](int v) { StoreVec(dw + v * kWidth, Vec<float, kWidth>{}); });
  __syncthreads();  // the parts have other vectors for a thread

  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      const QkNormPart<T>& part = args.parts[p];
      const int size = part.group_columns, vectors = size / kWidth;
      const auto part_dw = dw + p * query_columns;
      for (int g = Team<kWhole>::Index(); g < part.num_groups; g += Team<kWhole>::Count()) {
        const int column = part.first_column + g * size;
        const int64_t group = row * args.num_groups + part.first_group + g;
        T* const dy = args.dqkv + row * args.columns + column;
        const T* const x = args.raw + row * args.num_normalized + column;
        float dot = 0;
        if (args.sums != nullptr) {
          dot = args.sums[group];
        } else if (!args.weights_only) {
          dot = WeightedDot<kWhole, kWidth>(dy, x, part.weight, offset, vectors);
          dot = Team<kWhole>::Sum(dot, p, sums);
        }
        const float scale = args.rstd[group];
        const float x_factor = scale * scale * dot / (args.num_ranks * size);
        ForEachVector<kWhole>(vectors, [&](int v) {
          Vec<T, kWidth> value = LoadVec<kWidth>(dy + v * kWidth);
          const Vec<T, kWidth> input = LoadVec<kWidth>(x + v * kWidth),
                               w = LoadVec<kWidth>(part.weight + v * kWidth);
          Vec<float, kWidth> terms = LoadVec<kWidth>(part_dw + v * kWidth);
#pragma unroll
          for (int i = 0; i < kWidth; ++i) {
            const float gradient = ToFloat(value.at[i]), in = ToFloat(input.at[i]);
            value.at[i] =
                FromFloat<T>(scale * (gradient * (offset + ToFloat(w.at[i])) - in * x_factor));
            terms.at[i] += gradient * in * scale;
          }
          if (!args.weights_only) StoreVec(dy + v * kWidth, value);
          StoreVec(part_dw + v * kWidth, terms);
        });
      }
    }
  }
  __syncthreads();
  for (int c = threadIdx.x; c < weight_columns; c += blockDim.x) {
    float sum = 0;
    for (int t = 0; t < Team<kWhole>::Count(); ++t) sum += teams_dw[t * weight_columns + c];
    // The partials of the keys' weight are behind all partials of the queries'.
    const int64_t at = c < query_columns
                           ? int64_t{blockIdx.x} * query_columns + c
                           : int64_t{gridDim.x} * query_columns +
                                 int64_t{blockIdx.x} * (weight_columns - query_columns) + c -
                                 query_columns;
    args.workspace[at] = sum;
  }
}

// One block per row.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) QkNormSumsKernel(const QkNormSumsArgs<T> args) {
  __shared__ Shared<float, 2 * kMaxBlockWarps> sums;
  const int64_t row = blockIdx.x;
#pragma unroll
  for (int p = 0; p < 2; ++p) {
    const QkNormPart<T>& part = args.parts[p];
    const int vectors = part.group_columns / kWidth;
    const T* const a = args.a + row * args.a_columns + part.first_column;
    const T* const b =
        args.b == nullptr ? nullptr : args.b + row * args.b_columns + part.first_column;
    float sum = b == nullptr
                    ? SumSquares<true, kWidth, T>(a, vectors, nullptr)
                    : WeightedDot<true, kWidth>(a, b, part.weight,
                                                static_cast<float>(args.weight_offset), vectors);
    sum = Team<true>::Sum(sum, p, sums);
    if (threadIdx.x == 0) args.sums[2 * row + p] = sum;
  }
}

int64_t Largest(int64_t a, int64_t b) { return a > b ? a : b; }

// Threads per block: a warp for each head, or two vectors each.
template <typename T>
int NumThreads(const QkNormPart<T> (&parts)[2], bool whole, int width) {
  const int64_t vectors = Largest(parts[0].group_columns, parts[1].group_columns) / width;
  const int64_t warps =
      whole ? CeilDiv(vectors, 2 * kWarpSize) : Largest(parts[0].num_groups, parts[1].num_groups);
  return warps == 0 ? kWarpSize : warps * kWarpSize < kThreads ? warps * kWarpSize : kThreads;
}

// Calls launch.operator()<kWidth, kWhole>().
template <typename T, typename LaunchKind>
absl::Status LaunchTeams(const QkNormPart<T> (&parts)[2], int64_t columns, bool whole,
                         std::initializer_list<const void*> pointers, const LaunchKind& launch) {
  const bool vectorizes = Vectorizes<T>(columns, pointers) &&
                          Vectorizes<T>(parts[0].group_columns, {parts[0].weight}) &&
                          Vectorizes<T>(parts[1].group_columns, {parts[1].weight});
  return LaunchVectorized<T>(vectorizes, [&]<int kWidth>() {
    return whole ? launch.template operator()<kWidth, true>()
                 : launch.template operator()<kWidth, false>();
  });
}

// Returns true if each part is one group. With one head each the kernels for single heads do the
// same.
template <typename T>
bool IsWhole(const QkNormPart<T> (&parts)[2]) {
  return parts[0].num_groups == 1 && parts[1].num_groups == 1;
}

}  // namespace

template <typename T>
absl::Status QkNormForward(CudaStream stream, const QkNormForwardArgs<T>& args) {
  if (args.rows == 0) return absl::OkStatus();
  const bool whole = IsWhole(args.parts);
  return LaunchTeams(args.parts, args.columns, whole, {args.qkv, args.raw},
                     [&]<int kWidth, bool kWhole>() {
                       return Launch<QkNormForwardKernel<T, kWidth, kWhole>>(
                           stream, args.rows, NumThreads(args.parts, whole, kWidth), 0, args);
                     });
}

template <typename T>
absl::Status QkNormBackward(CudaStream stream, const QkNormBackwardArgs<T>& args) {
  if (args.rows == 0) return absl::OkStatus();
  const bool whole = IsWhole(args.parts);
  const int64_t blocks = QkNormBackwardBlocks(args.rows);
  const int64_t query_columns = args.parts[0].group_columns,
                key_columns = args.parts[1].group_columns;
  const absl::Status launched = LaunchTeams(
      args.parts, args.columns, whole, {args.dqkv, args.raw}, [&]<int kWidth, bool kWhole>() {
        const int threads = NumThreads(args.parts, whole, kWidth);
        const int64_t teams = kWhole ? 1 : threads / kWarpSize;
        return Launch<QkNormBackwardKernel<T, kWidth, kWhole>>(
            stream, blocks, threads, teams * (query_columns + key_columns) * sizeof(float), args);
      });
  if (!launched.ok() || args.dweights[0] == nullptr) return launched;
  const float* const keys = args.workspace + blocks * query_columns;
  if (query_columns == key_columns) {
    return SumPartials(stream, args.workspace, blocks, query_columns, args.dweights[0],
                       args.dweights[1]);
  }
  const absl::Status queries_summed =
      SumPartials(stream, args.workspace, blocks, query_columns, args.dweights[0]);
  if (!queries_summed.ok()) return queries_summed;
  return SumPartials(stream, keys, blocks, key_columns, args.dweights[1]);
}

template <typename T>
absl::Status QkNormSums(CudaStream stream, const QkNormSumsArgs<T>& args) {
  if (args.rows == 0) return absl::OkStatus();
  return LaunchTeams(args.parts, args.a_columns, true, {args.a, args.b},
                     [&]<int kWidth, bool kWhole>() {
                       return Launch<QkNormSumsKernel<T, kWidth>>(
                           stream, args.rows, NumThreads(args.parts, true, kWidth), 0, args);
                     });
}

STRAKE_QK_NORM_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
