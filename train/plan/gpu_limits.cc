#include "train/plan/gpu_limits.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/op_profile.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/device/cuda_context.h"
#include "core/tensor/tensor.h"
#include "train/plan/gpu_timing.h"

namespace strake {
namespace {

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

// NVIDIA's data sheets, with figures with sparsity halved: A100 (2021), H100 (2023), H200 (2024),
// Blackwell (2024).
struct NominalGpu {
  const char* name;  // or a part of it
  double tflops;
  double terabytes;  // of memory per second
};
constexpr NominalGpu kNominal[] = {
    {"H100 PCIe", 756, 2.0},
    {"H100 NVL", 835, 3.9},
    {"H200 NVL", 835, 4.8},
    {"H100", 989, 3.35},
    {"H200", 989, 4.8},
    {"A100-SXM4-40GB", 312, 1.555},
    {"A100-PCIE-40GB", 312, 1.555},
    {"A100 80GB PCIe", 312, 1.935},
    {"A100", 312, 2.039},
    {"GB200", 2500, 8.0},
    {"B200", 2250, 8.0},
};

// Returns the first row whose name is part of the GPU's; null where there is none.
const NominalGpu* FindNominal(absl::string_view gpu_name) {
  for (const NominalGpu& gpu : kNominal) {
    if (absl::StrContains(gpu_name, gpu.name)) return &gpu;
  }
  return nullptr;
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
  const NominalGpu* gpu = FindNominal(gpu_name);
  if (gpu == nullptr) return std::nullopt;
  return gpu->tflops * 1e12;
}

std::optional<double> NominalMemoryRate(absl::string_view gpu_name) {
  const NominalGpu* gpu = FindNominal(gpu_name);
  if (gpu == nullptr) return std::nullopt;
  return gpu->terabytes * 1e12;
}

}  // namespace strake
