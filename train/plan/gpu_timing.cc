#include "train/plan/gpu_timing.h"

#include <algorithm>
#include <limits>

#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/ops/philox/philox_cuda.h"
#include "glog/logging.h"

namespace strake {
namespace {

template <typename T>
absl::Status Fill(const Tensor& x, const Philox& random, CudaStream stream) {
  return cuda::PhiloxUniform<T>(
      stream, {.random = random, .first = 0, .size = x.num_elements(), .x = x.data<T>()});
}

}  // namespace

absl::StatusOr<double> BestSeconds(CudaStream stream, absl::FunctionRef<absl::Status()> enqueue) {
  constexpr int kRuns = 5, kCallsPerRun = 10;
  STRAKE_RETURN_IF_ERROR(enqueue());  // libraries load what they need
  STRAKE_ASSIGN_OR_RETURN(CudaEvent start, CudaEvent::Create());
  STRAKE_ASSIGN_OR_RETURN(CudaEvent end, CudaEvent::Create());
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < kRuns; ++run) {
    STRAKE_RETURN_IF_ERROR(start.Record(stream));
    for (int call = 0; call < kCallsPerRun; ++call) STRAKE_RETURN_IF_ERROR(enqueue());
    STRAKE_RETURN_IF_ERROR(end.Record(stream));
    STRAKE_RETURN_IF_ERROR(SynchronizeCudaStream(stream));
    STRAKE_ASSIGN_OR_RETURN(const double seconds, end.SecondsSince(start));
    best = std::min(best, seconds / kCallsPerRun);
  }
  return best;
}

absl::Status FillUniform(const Tensor& x, uint64_t seed, CudaStream stream) {
  CHECK(x.dtype() == DType::kF32 || x.dtype() == DType::kBf16) << "[gpu_timing] " << x.ToString();
  const Philox random(seed, RandomUse::kTesting);
  return x.dtype() == DType::kF32 ? Fill<float>(x, random, stream) : Fill<Bf16>(x, random, stream);
}

absl::StatusOr<CudaMemory> RandomNumbers(DType dtype, int64_t count, uint64_t seed,
                                         CudaStream stream) {
  STRAKE_ASSIGN_OR_RETURN(CudaMemory memory, CudaMemory::Allocate(count * DTypeSize(dtype)));
  const Tensor numbers(memory.data(), dtype, {count}, Device::kCuda);
  STRAKE_RETURN_IF_ERROR(FillUniform(numbers, seed, stream));
  return memory;
}

}  // namespace strake
