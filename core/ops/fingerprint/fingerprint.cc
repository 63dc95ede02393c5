#include "core/ops/fingerprint/fingerprint.h"

#include <algorithm>
#include <atomic>

#include "core/base/dtype.h"
#include "core/ops/dispatch.h"
#include "core/ops/fingerprint/fingerprint_cuda.h"
#include "glog/logging.h"

namespace strake {
namespace {

static_assert(kFingerprintSums == cuda::kFingerprintBlocks);

// Elements of bf16 that are widened at a time.
constexpr int64_t kWidenedElements = 1024;

void CheckArguments(const Tensor& x, const FingerprintBlock& b, const Tensor& sums) {
  const int64_t size = b.rows == 0 ? 0 : (b.rows - 1) * b.stride + b.columns;
  CHECK(x.shape() == Shape{size} && b.columns <= b.stride && b.place.column >= 0 &&
        b.place.column + b.columns < (int64_t{1} << 31) &&
        sums.shape() == Shape({kFingerprintSums, 2}) && sums.dtype() == DType::kI64)
      << "[fingerprint] " << b.rows << " rows of " << b.columns << " elements, " << b.stride
      << " apart, from column " << b.place.column << ", of x " << x.ToString() << ", sums "
      << sums.ToString();
}

// A row's elements as words.
Fingerprint OfRow(const FingerprintPlace& place, const float* x, int64_t columns) {
  return FingerprintOfRow(place, x, columns);
}
Fingerprint OfRow(FingerprintPlace place, const double* x, int64_t columns) {
  place.column *= 2;
  return FingerprintOfRow(place, x, 2 * columns);
}
Fingerprint OfRow(FingerprintPlace place, const Bf16* x, int64_t columns) {
  Fingerprint sum;
  uint32_t words[kWidenedElements];
  for (int64_t begin = 0; begin < columns; begin += kWidenedElements) {
    const int64_t count = std::min(kWidenedElements, columns - begin);
    for (int64_t i = 0; i < count; ++i) words[i] = uint32_t{x[begin + i].bits} << 16;
    sum += FingerprintOfRow(place, words, count);
    place.column += count;
  }
  return sum;
}

template <typename T>
void Add(const Context& ctx, const T* x, const FingerprintBlock& b, int64_t* sums) {
  ctx.team().ParallelFor(b.rows, RowGrain(b.columns), [&](int64_t begin, int64_t end) {
    Fingerprint sum;
    for (int64_t row = begin; row < end; ++row) {
      sum += OfRow({b.place.key, b.place.row + row, b.place.column}, x + row * b.stride, b.columns);
    }
    for (int lane = 0; lane < 2; ++lane) {
      std::atomic_ref(sums[lane]).fetch_add(static_cast<int64_t>(sum.lanes[lane]));
    }
  });
}

}  // namespace

absl::Status AddFingerprint(const Context& ctx, const Tensor& x, const FingerprintBlock& block,
                            Tensor sums) {
  CheckArguments(x, block, sums);
  const bool on_cuda = OnCuda("fingerprint", ctx, x, sums);
  const OpScope op(ctx, "fingerprint", [&](OpCall& call) { call.In("x", x).InOut("sums", sums); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda("fingerprint", x.dtype(), [&]<typename T>() {
      return cuda::AddFingerprint<T>(ctx.cuda_stream(),
                                     {.x = x.data<T>(),
                                      .place = block.place,
                                      .rows = block.rows,
                                      .columns = block.columns,
                                      .stride = block.stride,
                                      .sums = reinterpret_cast<uint64_t*>(sums.data<int64_t>())});
    });
  }
  int64_t* const to = sums.data<int64_t>();
  switch (x.dtype()) {
    case DType::kF32:
      Add(ctx, x.data<float>(), block, to);
      break;
    case DType::kBf16:
      Add(ctx, x.data<Bf16>(), block, to);
      break;
    case DType::kF64:
      Add(ctx, x.data<double>(), block, to);
      break;
    default:
      LOG(FATAL) << "[fingerprint] no implementation for " << DTypeName(x.dtype());
  }
  return absl::OkStatus();
}

Fingerprint TotalFingerprint(const Tensor& sums) {
  Fingerprint total;
  const int64_t* at = sums.data<int64_t>();
  for (int64_t i = 0; i < sums.num_elements(); ++i) {
    total.lanes[i % 2] += static_cast<uint64_t>(at[i]);
  }
  return total;
}

}  // namespace strake
