// A GPU's limits, measured and from its data sheet, for a benchmark to compare with.
#ifndef STRAKE_TRAIN_PLAN_GPU_LIMITS_H_
#define STRAKE_TRAIN_PLAN_GPU_LIMITS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/dtype.h"
#include "core/device/op_call.h"

namespace strake {

// [M, K] x [K, N].
struct ProductShape {
  int64_t m = 0, n = 0, k = 0;
  std::string ToString() const;  // "16384 x 6400 x 1600": M, N, K
  bool operator==(const ProductShape&) const = default;
};

// The three shapes with the most FLOPs in the forward pass of a step's record (step_record.h),
// largest first.
std::vector<ProductShape> LargestProducts(const std::vector<OpCall>& calls);

struct GpuLimits {
  double product_flops = 0;  // per second
  ProductShape product;      // the product that reached it
  double copy_bytes_per_second = 0;
};

// Measures the fastest of the products, of random numbers, and a copy of at most 1 GiB whose bytes
// count twice, read and written; each is the best of several runs between events. Frees all memory
// before it returns. ResourceExhausted where there is no memory.
absl::StatusOr<GpuLimits> MeasureGpuLimits(int device, DType dtype,
                                           const std::vector<ProductShape>& products);

// The better of two measurements, each part by itself.
GpuLimits BetterOf(const GpuLimits& a, const GpuLimits& b);

// Data-sheet bf16 products per second, without sparsity; nullopt for an unknown GPU.
std::optional<double> NominalBf16Flops(absl::string_view gpu_name);

// Data-sheet bytes per second of its memory; nullopt for an unknown GPU.
std::optional<double> NominalMemoryRate(absl::string_view gpu_name);

}  // namespace strake

#endif  // STRAKE_TRAIN_PLAN_GPU_LIMITS_H_
