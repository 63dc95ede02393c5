#include <type_traits>

#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/reduce_ranks/reduce_ranks_cuda.h"

namespace strake::cuda {
namespace {

constexpr int kThreads = 256;

struct Ranks {
  int num_inputs, num_outputs;
  const void* inputs[kMaxReducedRanks];
  void* outputs[kMaxReducedRanks];
};

struct Sum {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      // Wraps; overflow of signed addition would be undefined.
      using Unsigned = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
    } else {
      return a + b;
    }
  }
};

struct Max {
  // Keeps a NaN on either side: every comparison with a NaN in `a` is false.
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return (b > a || b != b) ? b : a;
  }
};

template <typename T>
__device__ auto Widen(T x) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return ToFloat(x);
  } else {
    return x;
  }
}

template <typename T, typename Accumulator>
__device__ T Narrow(Accumulator x) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return FromFloat<T>(x);
  } else {
    return x;
  }
}

// Reduces elements [at, at + kWidth).
template <typename Op, typename T, int kWidth>
__device__ void ReduceAt(const Ranks& ranks, int64_t at) {
  using Accumulator = decltype(Widen(T()));
  Accumulator sums[kWidth];
  for (int rank = 0; rank < ranks.num_inputs; ++rank) {
    const auto x = LoadVec<kWidth>(static_cast<const T*>(ranks.inputs[rank]) + at);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      sums[i] = rank == 0 ? Widen(x.at[i]) : Op()(sums[i], Widen(x.at[i]));
    }
  }
  Vec<T, kWidth> y;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) y.at[i] = Narrow<T>(sums[i]);
  for (int d = 0; d < ranks.num_outputs; ++d) {
    StoreVec(static_cast<T*>(ranks.outputs[d]) + at, y);
  }
}

// Each thread reduces one vector; threads of block 0 also reduce the last count % kWidth elements.
template <typename Op, typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) ReduceRanksKernel(int64_t count, Ranks ranks) {
  const int64_t vectors = count / kWidth;
  const int64_t vector = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (vector < vectors) ReduceAt<Op, T, kWidth>(ranks, vector * kWidth);
  if (blockIdx.x == 0 && threadIdx.x < count % kWidth) {
    ReduceAt<Op, T, 1>(ranks, vectors * kWidth + threadIdx.x);
  }
}

template <typename Op, typename T>
absl::Status Reduce(CudaStream stream, const Ranks& ranks, int64_t count) {
  bool vectorizes = true;
  for (int i = 0; i < ranks.num_inputs; ++i) vectorizes &= Vectorizes<T>(0, {ranks.inputs[i]});
  for (int d = 0; d < ranks.num_outputs; ++d) vectorizes &= Vectorizes<T>(0, {ranks.outputs[d]});
  return LaunchVectorized<T>(vectorizes, [&]<int kWidth>() {
    const int64_t per_block = int64_t{kThreads} * kWidth;
    return Launch<ReduceRanksKernel<Op, T, kWidth>>(stream, (count + per_block - 1) / per_block,
                                                    kThreads, 0, count, ranks);
  });
}

template <typename Op>
absl::Status ReduceReal(CudaStream stream, DType dtype, const Ranks& ranks, int64_t count) {
  switch (dtype) {
    case DType::kF32:
      return Reduce<Op, float>(stream, ranks, count);
    case DType::kBf16:
      return Reduce<Op, Bf16>(stream, ranks, count);
    case DType::kF64:
      return Reduce<Op, double>(stream, ranks, count);
    case DType::kI32:
      return Reduce<Op, int32_t>(stream, ranks, count);
    case DType::kI64:
      return Reduce<Op, int64_t>(stream, ranks, count);
    case DType::kU16:
      return Reduce<Op, uint16_t>(stream, ranks, count);
    case DType::kC128:
      break;
  }
  return absl::InvalidArgumentError("[max_ranks] c128 has no order");
}

absl::Status Reduce(CudaStream stream, const Ranks& ranks, const ReduceRanksArgs& args) {
  if (args.reduction == RankReduction::kMax) {
    return ReduceReal<Max>(stream, args.dtype, ranks, args.count);
  }
  // Both parts of a complex number are summed alike.
  return args.dtype == DType::kC128 ? Reduce<Sum, double>(stream, ranks, 2 * args.count)
                                    : ReduceReal<Sum>(stream, args.dtype, ranks, args.count);
}

}  // namespace

absl::Status ReduceRanks(CudaStream stream, const ReduceRanksArgs& args) {
  if (args.inputs.size() > kMaxReducedRanks || args.outputs.size() > kMaxReducedRanks) {
    return absl::InvalidArgumentError(
        absl::StrCat("[reduce_ranks] ", args.inputs.size(), " inputs and ", args.outputs.size(),
                     " outputs: at most ", kMaxReducedRanks, " ranks can share a GPU"));
  }
  if (args.count == 0) return absl::OkStatus();
  Ranks ranks = {
      static_cast<int>(args.inputs.size()), static_cast<int>(args.outputs.size()), {}, {}};
  for (size_t i = 0; i < args.inputs.size(); ++i) ranks.inputs[i] = args.inputs[i];
  for (size_t d = 0; d < args.outputs.size(); ++d) ranks.outputs[d] = args.outputs[d];
  return Reduce(stream, ranks, args);
}

STRAKE_REDUCE_RANKS_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
