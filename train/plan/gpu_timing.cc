#include "train/plan/gpu_timing.h"

#include <algorithm>
#include <limits>

#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/ops/philox/philox_cuda.h"

namespace strake {

absl::StatusOr<double> BestSeconds(CudaStream stream, absl::FunctionRef<absl::Status()> enqueue) {
  constexpr int kRuns = 5, kCallsPerRun = 10;
  STRAKE_RETURN_IF_ERROR(enqueue());  // libraries load what they need
  STRAKE_ASSIGN_OR_RETURN(CudaEvent start, CudaEvent::Create(CudaEventKind::kTiming));
  STRAKE_ASSIGN_OR_RETURN(CudaEvent end, CudaEvent::Create(CudaEventKind::kTiming));
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

absl::StatusOr<CudaMemory> RandomNumbers(DType dtype, int64_t count, uint64_t seed,
                                         CudaStream stream) {
  STRAKE_ASSIGN_OR_RETURN(CudaMemory memory, CudaMemory::Allocate(count * DTypeSize(dtype)));
  const Philox random(seed, RandomUse::kTesting);
  STRAKE_RETURN_IF_ERROR(
      dtype == DType::kBf16
          ? cuda::PhiloxUniform<Bf16>(stream, {.random = random,
                                               .first = 0,
                                               .size = count,
                                               .x = static_cast<Bf16*>(memory.data())})
          : cuda::PhiloxUniform<float>(stream, {.random = random,
                                                .first = 0,
                                                .size = count,
                                                .x = static_cast<float*>(memory.data())}));
  return memory;
}

}  // namespace strake
