#include "train/plan/gpu_limits.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <tuple>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/op_profile.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/device/cuda_context.h"
#include "core/ops/philox/philox_cuda.h"
#include "core/tensor/tensor.h"

namespace strake {
namespace {

// Seconds per call, the shortest of several measurements on the device.
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

// Power, and with it the clock, depends on how random the bits are.
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

absl::StatusOr<double> MeasureProduct(const CudaContext& cuda, DType dtype,
                                      const ProductShape& shape) {
  const auto [m, n, k] = std::tuple(shape.m, shape.n, shape.k);
  STRAKE_ASSIGN_OR_RETURN(const CudaMemory a, RandomNumbers(dtype, m * k, 1, cuda.stream()));
  STRAKE_ASSIGN_OR_RETURN(const CudaMemory b, RandomNumbers(dtype, k * n, 2, cuda.stream()));
  STRAKE_ASSIGN_OR_RETURN(const CudaMemory c, CudaMemory::Allocate(m * n * DTypeSize(dtype)));
  CudaProduct product{.m = m, .n = n, .k = k, .input = dtype, .output = dtype};
  product.a = a.data();
  product.b = b.data();
  product.c = c.data();
  STRAKE_ASSIGN_OR_RETURN(const double seconds, BestSeconds(cuda.stream(), [&] {
                            return cuda.cublaslt().Multiply(cuda.stream(), product);
                          }));
  return 2.0 * m * n * k / seconds;
}

absl::StatusOr<double> MeasureCopy(const CudaContext& cuda) {
  // Far more than a cache holds, and a small part of the free memory.
  STRAKE_ASSIGN_OR_RETURN(const CudaDevice gpu, DescribeCudaDevice(cuda.device()));
  const size_t num_bytes = std::min(size_t{1} << 30, gpu.free_bytes / 64);
  STRAKE_ASSIGN_OR_RETURN(const CudaMemory from, CudaMemory::Allocate(num_bytes));
  STRAKE_ASSIGN_OR_RETURN(const CudaMemory to, CudaMemory::Allocate(num_bytes));
  STRAKE_RETURN_IF_ERROR(SetBytesOnDevice(from.data(), 1, num_bytes, cuda.stream()));
  STRAKE_ASSIGN_OR_RETURN(const double seconds, BestSeconds(cuda.stream(), [&] {
                            return CopyOnDevice(to.data(), from.data(), num_bytes, cuda.stream());
                          }));
  return 2.0 * num_bytes / seconds;
}

}  // namespace

std::string ProductShape::ToString() const { return absl::StrCat(m, " x ", n, " x ", k); }

std::vector<ProductShape> LargestProducts(const std::vector<OpCall>& calls) {
  constexpr size_t kNumShapes = 3;
  std::vector<ProductShape> shapes;
  for (const OpCall& call : calls) {
    if (std::strcmp(call.op, "matmul") != 0 || call.pass != Pass::kForward) continue;
    const int64_t m = call.ShapeOf("c")[0], n = call.ShapeOf("c")[1];
    const ProductShape shape = {
        .m = m, .n = n, .k = static_cast<int64_t>(call.cost.flops / 2 / m / n)};
    if (std::find(shapes.begin(), shapes.end(), shape) == shapes.end()) shapes.push_back(shape);
  }
  const auto flops = [](const ProductShape& shape) { return double(shape.m) * shape.n * shape.k; };
  std::stable_sort(shapes.begin(), shapes.end(),
                   [&](const auto& a, const auto& b) { return flops(a) > flops(b); });
  if (shapes.size() > kNumShapes) shapes.resize(kNumShapes);
  return shapes;
}

absl::StatusOr<GpuLimits> MeasureGpuLimits(int device, DType dtype,
                                           const std::vector<ProductShape>& products) {
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<CudaContext> cuda, CudaContext::Create(device));
  GpuLimits limits;
  for (const ProductShape& product : products) {
    STRAKE_ASSIGN_OR_RETURN(const double flops, MeasureProduct(*cuda, dtype, product));
    limits = BetterOf(limits, {.product_flops = flops, .product = product});
  }
  STRAKE_ASSIGN_OR_RETURN(limits.copy_bytes_per_second, MeasureCopy(*cuda));
  return limits;
}

GpuLimits BetterOf(const GpuLimits& a, const GpuLimits& b) {
  GpuLimits better = a.product_flops >= b.product_flops ? a : b;
  better.copy_bytes_per_second = std::max(a.copy_bytes_per_second, b.copy_bytes_per_second);
  return better;
}

std::optional<double> NominalBf16Flops(absl::string_view gpu_name) {
  // NVIDIA's data sheets, with figures with sparsity halved: A100 (2021), H100 (2023), H200 (2024),
  // Blackwell (2024). The first row whose name is part of the GPU's name counts.
  struct Nominal {
    const char* name;
    double tflops;
  };
  constexpr Nominal kNominal[] = {
      {"H100 PCIe", 756}, {"H100 NVL", 835}, {"H200 NVL", 835}, {"H100", 989},
      {"H200", 989},      {"A100", 312},     {"GB200", 2500},   {"B200", 2250},
  };
  for (const Nominal& gpu : kNominal) {
    if (absl::StrContains(gpu_name, gpu.name)) return gpu.tflops * 1e12;
  }
  return std::nullopt;
}

}  // namespace strake
