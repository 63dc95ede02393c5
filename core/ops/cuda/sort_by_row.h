// Included by kernels' .cu files: sorts the indices of tokens by the table rows that the tokens
// select. Indices with the same row keep their order. Uses no atomics: a radix sort that ranks by
// warp votes.
#ifndef STRAKE_CORE_OPS_CUDA_SORT_BY_ROW_H_
#define STRAKE_CORE_OPS_CUDA_SORT_BY_ROW_H_

#include "absl/status/statusor.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/workspace_sizes.h"

namespace strake::cuda {

// Maps an index into `tokens` to its row of the table, or to `rows` if another slice has the token.
struct RowOf {
  const int32_t* tokens;
  int64_t begin;
  int rows;

  __device__ int operator()(int n) const {
    const int64_t row = tokens[n] - begin;
    return row >= 0 && row < rows ? static_cast<int>(row) : rows;
  }
};

// The sort processes kDigitBits of the row per pass, the lowest bits first. A pass counts each
// digit in each tile of indices, one block per tile. It then sums the counts, and moves each index
// behind those with smaller digits, in earlier tiles and at earlier places.
constexpr int kTileWarps = 8;
constexpr int kRounds = 8;  // of 32 indices, per warp
static_assert(kTileWarps * kRounds * kWarpSize == kTile);

struct SortPass {
  RowOf row_of;
  const int* from;  // null: 0, 1, 2, ...
  int num_tokens, shift;
};

// A thread's part of a tile.
struct TilePart {
  int index[kRounds];  // -1 past the end
  int digit[kRounds];
  int before[kRounds];  // indices of its warp with the same digit that come before it
};

// to[i] = the sum of from[0, i), computed by one warp; returns the total. `to` may be `from`.
template <typename From, typename To>
__device__ int WarpExclusiveSum(From from, int size, To to) {
  const int lane = threadIdx.x % kWarpSize;
  int sum = 0;
  for (int begin = 0; begin < size; begin += kWarpSize) {
    const int i = begin + lane;
    const int value = i < size ? static_cast<int>(from[i]) : 0;
    int inclusive = value;
#pragma unroll
    for (int distance = 1; distance < kWarpSize; distance *= 2) {
      const int below = __shfl_sync(kWholeWarp, inclusive, lane - distance);
      if (lane >= distance) inclusive += below;
    }
    if (i < size) to[i] = sum + inclusive - value;
    sum += __shfl_sync(kWholeWarp, inclusive, kWarpSize - 1);
  }
  return sum;
}

// Fills counts[warp * kDigits + digit]. Ends before a barrier.
template <typename SharedInts>
__device__ inline TilePart CountDigits(const SortPass& pass, SharedInts counts) {
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  for (int d = lane; d < kDigits; d += kWarpSize) counts[warp * kDigits + d] = 0;
  __syncwarp();
  TilePart part;
  const int first = blockIdx.x * kTile + warp * kRounds * kWarpSize + lane;
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    const int at = first + r * kWarpSize;
    part.index[r] = at >= pass.num_tokens ? -1 : pass.from == nullptr ? at : pass.from[at];
    part.digit[r] =
        part.index[r] < 0 ? 0 : pass.row_of(part.index[r]) >> pass.shift & (kDigits - 1);
  }
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    const int digit = part.digit[r];
    const bool inside = part.index[r] >= 0;
    unsigned equal = __ballot_sync(kWholeWarp, inside);
#pragma unroll
    for (int bit = 0; bit < kDigitBits; ++bit) {
      const unsigned set = __ballot_sync(kWholeWarp, digit >> bit & 1);
      equal &= digit >> bit & 1 ? set : ~set;
    }
    const int below = __popc(equal & ((1u << lane) - 1));
    const int earlier = inside ? static_cast<int>(counts[warp * kDigits + digit]) : 0;
    __syncwarp();
    if (inside && below == 0) counts[warp * kDigits + digit] = earlier + __popc(equal);
    __syncwarp();
    part.before[r] = earlier + below;
  }
  return part;
}

// counts[digit, tile].
static __global__ void __launch_bounds__(kTileWarps* kWarpSize)
    CountDigitsKernel(SortPass pass, int* counts) {
  __shared__ Shared<int, kTileWarps * kDigits> warp_counts;
  CountDigits(pass, warp_counts + 0);
  __syncthreads();
  for (int d = threadIdx.x; d < kDigits; d += blockDim.x) {
    int sum = 0;
    for (int w = 0; w < kTileWarps; ++w) sum += warp_counts[w * kDigits + d];
    counts[int64_t{d} * gridDim.x + blockIdx.x] = sum;
  }
}

// Replaces counts[digit, tile] by the sum over earlier tiles; totals[digit] = the sum over all
// tiles. One warp per digit.
static __global__ void AddTilesKernel(int num_tiles, int* counts, int* totals) {
  const int digit = blockIdx.x * (blockDim.x / kWarpSize) + threadIdx.x / kWarpSize;
  int* const row = counts + int64_t{digit} * num_tiles;
  const int total = WarpExclusiveSum(row, num_tiles, row);
  if (threadIdx.x % kWarpSize == 0) totals[digit] = total;
}

static __global__ void __launch_bounds__(kTileWarps* kWarpSize)
    ScatterByDigitKernel(SortPass pass, const int* counts, const int* totals, int* to) {
  __shared__ Shared<int, kTileWarps * kDigits> places;
  __shared__ Shared<int, kDigits> smaller;
  if (threadIdx.x < kWarpSize) WarpExclusiveSum(totals, kDigits, smaller + 0);
  const TilePart part = CountDigits(pass, places + 0);
  __syncthreads();
  for (int d = threadIdx.x; d < kDigits; d += blockDim.x) {
    int place = smaller[d] + counts[int64_t{d} * gridDim.x + blockIdx.x];
    for (int w = 0; w < kTileWarps; ++w) {
      const int count = places[w * kDigits + d];
      places[w * kDigits + d] = place;
      place += count;
    }
  }
  __syncthreads();
  const int warp = threadIdx.x / kWarpSize;
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    if (part.index[r] < 0) continue;
    to[places[warp * kDigits + part.digit[r]] + part.before[r]] = part.index[r];
  }
}

// Returns the sorted indices [num_tokens], which are in the workspace.
inline absl::StatusOr<const int*> SortByRow(CudaStream stream, const RowOf& row_of,
                                            int64_t num_tokens, int* workspace) {
  const int block = kTileWarps * kWarpSize;
  const int64_t num_tiles = CeilDiv(num_tokens, kTile);
  int *to = workspace, *spare = to + num_tokens;
  int *const counts = spare + num_tokens, *const totals = counts + kDigits * num_tiles;
  const int* from = nullptr;
  for (int shift = 0; shift == 0 || (shift < 31 && row_of.rows >> shift > 0); shift += kDigitBits) {
    const SortPass pass = {row_of, from, static_cast<int>(num_tokens), shift};
    const absl::Status counted =
        Launch<CountDigitsKernel>(stream, num_tiles, block, 0, pass, counts);
    if (!counted.ok()) return counted;
    const absl::Status added =
        Launch<AddTilesKernel>(stream, kDigits / kTileWarps, block, 0, num_tiles, counts, totals);
    if (!added.ok()) return added;
    const absl::Status moved =
        Launch<ScatterByDigitKernel>(stream, num_tiles, block, 0, pass, counts, totals, to);
    if (!moved.ok()) return moved;
    from = to;
    to = spare;
    spare = const_cast<int*>(from);
  }
  return from;
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_CUDA_SORT_BY_ROW_H_
