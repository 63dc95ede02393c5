#include "parallel/comm/reduce_in_rank_order.h"

#include <algorithm>
#include <complex>
#include <cstring>
#include <type_traits>

#include "glog/logging.h"

namespace strake {
namespace {

// The accumulators of so many elements stay in the first-level cache.
constexpr int64_t kBlock = 1024;

template <typename T>
struct AccumulatorOf {
  using type = T;
};
template <>
struct AccumulatorOf<Bf16> {
  using type = float;
};

template <typename T>
T Add(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    // Wraps; signed addition would be undefined.
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(
        static_cast<Unsigned>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b)));
  } else {
    return a + b;
  }
}

// Keeps a NaN on either side: any comparison with a NaN in `a` is false.
template <typename T>
T Max(T a, T b) {
  // NOLINTNEXTLINE(misc-redundant-expression): true of a NaN.
  return (b > a || b != b) ? b : a;
}

template <typename T, typename Combine>
void ReduceBlocks(absl::Span<const void* const> inputs, int64_t count,
                  absl::Span<void* const> outputs, Combine combine) {
  using Accumulator = typename AccumulatorOf<T>::type;
  Accumulator sums[kBlock];
  T results[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    const T* first = static_cast<const T*>(inputs[0]) + begin;
    for (int64_t i = 0; i < n; ++i) sums[i] = static_cast<Accumulator>(first[i]);
    for (const void* input : inputs.subspan(1)) {
      const T* x = static_cast<const T*>(input) + begin;
      for (int64_t i = 0; i < n; ++i) sums[i] = combine(sums[i], static_cast<Accumulator>(x[i]));
    }
    for (int64_t i = 0; i < n; ++i) results[i] = static_cast<T>(sums[i]);
    for (void* output : outputs)
      std::memcpy(static_cast<T*>(output) + begin, results, n * sizeof(T));
  }
}

template <typename Body>
void DispatchReal(const char* what, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF32:
      return body.template operator()<float>();
    case DType::kBf16:
      return body.template operator()<Bf16>();
    case DType::kF64:
      return body.template operator()<double>();
    case DType::kI32:
      return body.template operator()<int32_t>();
    case DType::kI64:
      return body.template operator()<int64_t>();
    case DType::kU16:
      return body.template operator()<uint16_t>();
    default:
      LOG(FATAL) << "[" << what << "] " << DTypeName(dtype) << " has no order";
  }
}

}  // namespace

void SumInRankOrder(DType dtype, absl::Span<const void* const> inputs, int64_t count,
                    absl::Span<void* const> outputs) {
  const auto add = [](auto a, auto b) { return Add(a, b); };
  if (dtype == DType::kC128) {
    return ReduceBlocks<std::complex<double>>(inputs, count, outputs, add);
  }
  DispatchReal("sum_in_rank_order", dtype,
               [&]<typename T>() { ReduceBlocks<T>(inputs, count, outputs, add); });
}

void MaxInRankOrder(DType dtype, absl::Span<const void* const> inputs, int64_t count,
                    absl::Span<void* const> outputs) {
  DispatchReal("max_in_rank_order", dtype, [&]<typename T>() {
    ReduceBlocks<T>(inputs, count, outputs, [](auto a, auto b) { return Max(a, b); });
  });
}

}  // namespace strake
