#include <cmath>

#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/rope/rope_cuda.h"

namespace strake::cuda {
namespace {

constexpr int kMaxThreads = 256;
constexpr int kHeads = 4;  // per thread, all with the same angles; all are loaded before the first
                           // is stored

template <int kWidth>
__device__ __forceinline__ Vec<float, kWidth> LoadAngles(const double* from) {
  Vec<float, kWidth> angles;
  constexpr int kLoad = kWidth == 1 ? 1 : kVecWidth<double>;
#pragma unroll
  for (int i = 0; i < kWidth; i += kLoad) {
    const Vec<double, kLoad> part = LoadVec<kLoad>(from + i);
#pragma unroll
    for (int k = 0; k < kLoad; ++k) angles.at[i + k] = static_cast<float>(part.at[k]);
  }
  return angles;
}

// Moves the elements at even and odd places of two adjacent vectors to the first and the second.
template <typename T, int kWidth>
__device__ __forceinline__ void SplitNeighbours(Vec<T, kWidth>& first, Vec<T, kWidth>& second) {
  Vec<T, kWidth> even, odd;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    even.at[i] = 2 * i < kWidth ? first.at[2 * i] : second.at[2 * i - kWidth];
    odd.at[i] = 2 * i + 1 < kWidth ? first.at[2 * i + 1] : second.at[2 * i + 1 - kWidth];
  }
  first = even;
  second = odd;
}

// Undoes SplitNeighbours().
template <typename T, int kWidth>
__device__ __forceinline__ void JoinNeighbours(Vec<T, kWidth>& first, Vec<T, kWidth>& second) {
  Vec<T, kWidth> before, after;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const int middle = i + kWidth;
    before.at[i] = i % 2 == 0 ? first.at[i / 2] : second.at[i / 2];
    after.at[i] = middle % 2 == 0 ? first.at[middle / 2] : second.at[middle / 2];
  }
  first = before;
  second = after;
}

// Block n rotates token n, by row row_of(n) of the table. A thread rotates kWidth pairs (i, i +
// R/2), or (2i, 2i + 1) if kInterleaved, of heads g, g + G, g + 2 G, ... of G = ceil(num_heads /
// kHeads) groups. Memory traffic: the heads are read and written once; the table comes from L2,
// where its R f64 per token are little compared with the heads.
template <typename T, int kWidth, bool kInterleaved, typename RowOf>
__device__ __forceinline__ void RotateToken(const double* table, int rotary_dim, int head_dim,
                                            int num_heads, bool transposed, int64_t stride, T* x,
                                            const RowOf& row_of) {
  const int half = rotary_dim / 2;
  const int second_at = kInterleaved ? kWidth : half;
  const int vectors = half / kWidth;  // of half a head
  const int groups = (num_heads + kHeads - 1) / kHeads;
  const int token = blockIdx.x;
  const double* const angles = table + row_of(token) * rotary_dim;
  T* const row = x + token * stride;

  for (int unit = threadIdx.x; unit < vectors * groups; unit += blockDim.x) {
    const int group = unit / vectors, i = unit % vectors * kWidth;
    Vec<T, kWidth> first[kHeads] = {}, second[kHeads] = {};
#pragma unroll
    for (int k = 0; k < kHeads; ++k) {
      const int head = group + k * groups;
      if (head >= num_heads) continue;
      const T* const from = row + int64_t{head} * head_dim + (kInterleaved ? 2 * i : i);
      first[k] = LoadVec<kWidth>(from);
      second[k] = LoadVec<kWidth>(from + second_at);
      if constexpr (kInterleaved) SplitNeighbours(first[k], second[k]);
    }
    const Vec<float, kWidth> cos = LoadAngles<kWidth>(angles + i);
    const Vec<float, kWidth> sin = LoadAngles<kWidth>(angles + half + i);
#pragma unroll
    for (int k = 0; k < kHeads; ++k) {
      const int head = group + k * groups;
      if (head >= num_heads) continue;
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        const float a = ToFloat(first[k].at[j]), b = ToFloat(second[k].at[j]);
        const float c = cos.at[j], s = transposed ? -sin.at[j] : sin.at[j];
        first[k].at[j] = FromFloat<T>(a * c - b * s);
        second[k].at[j] = FromFloat<T>(b * c + a * s);
      }
      if constexpr (kInterleaved) JoinNeighbours(first[k], second[k]);
      T* const to = row + int64_t{head} * head_dim + (kInterleaved ? 2 * i : i);
      StoreVec(to, first[k]);
      StoreVec(to + second_at, second[k]);
    }
  }
}

template <typename T, int kWidth, bool kInterleaved>
__global__ void __launch_bounds__(kMaxThreads)
    RopeKernel(const double* table, int rotary_dim, int head_dim, int num_heads, int seq_len,
               int64_t position_offset, bool transposed, int64_t stride, T* x) {
  RotateToken<T, kWidth, kInterleaved>(
      table, rotary_dim, head_dim, num_heads, transposed, stride, x,
      [&](int token) { return position_offset + token % seq_len; });
}

// The same at given positions; one that is not in the table makes its token's features NaN.
template <typename T, int kWidth, bool kInterleaved>
__global__ void __launch_bounds__(kMaxThreads)
    RopeAtPositionsKernel(const double* table, int rotary_dim, int head_dim, int num_heads,
                          const int32_t* positions, int64_t num_positions, bool transposed,
                          int64_t stride, T* x) {
  const int position = positions[blockIdx.x];
  if (position < 0 || position >= num_positions) {
    T* const row = x + blockIdx.x * stride;
    for (int i = threadIdx.x; i < num_heads * rotary_dim; i += blockDim.x) {
      row[int64_t{i / rotary_dim} * head_dim + i % rotary_dim] = FromFloat<T>(NAN);
    }
    return;
  }
  RotateToken<T, kWidth, kInterleaved>(table, rotary_dim, head_dim, num_heads, transposed, stride,
                                       x, [&](int) { return int64_t{position}; });
}

}  // namespace

template <typename T>
absl::Status Rope(CudaStream stream, const RopeArgs<T>& args) {
  if (args.tokens == 0 || args.num_heads == 0 || args.rotary_dim == 0) return absl::OkStatus();
  const int64_t half = args.rotary_dim / 2;
  const bool vectorizes = Vectorizes<T>(half, {args.table, args.x}) &&
                          Vectorizes<T>(args.head_dim, {}) && Vectorizes<T>(args.stride, {});
  const auto launch = [&]<int kWidth, bool kInterleaved>() {
    const int64_t units = half / kWidth * ((args.num_heads + kHeads - 1) / kHeads);
    const int64_t whole_warps = (units + kWarpSize - 1) / kWarpSize * kWarpSize;
    const int threads = whole_warps < kMaxThreads ? whole_warps : kMaxThreads;
    if (args.positions != nullptr) {
      return Launch<RopeAtPositionsKernel<T, kWidth, kInterleaved>>(
          stream, args.tokens, threads, 0, args.table, args.rotary_dim, args.head_dim,
          args.num_heads, args.positions, args.num_positions, args.transposed, args.stride, args.x);
    }
    return Launch<RopeKernel<T, kWidth, kInterleaved>>(
        stream, args.tokens, threads, 0, args.table, args.rotary_dim, args.head_dim, args.num_heads,
        args.seq_len, args.position_offset, args.transposed, args.stride, args.x);
  };
  return LaunchVectorized<T>(vectorizes, [&]<int kWidth>() {
    return args.interleaved ? launch.template operator()<kWidth, true>()
                            : launch.template operator()<kWidth, false>();
  });
}

STRAKE_ROPE_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
