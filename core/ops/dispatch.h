// Dispatches from a tensor's run-time dtype to a C++ type, for the implementations of the ops.
#ifndef STRAKE_CORE_OPS_DISPATCH_H_
#define STRAKE_CORE_OPS_DISPATCH_H_

#include <algorithm>
#include <complex>
#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"
#include "glog/logging.h"

namespace strake {

// Calls body.template operator()<Scalar>() for the dtypes of the reference ops: f32 and f64, and
// c128 in the libraries NAME_c128. Any other dtype is a CHECK failure that names the op.
template <typename Body>
void DispatchReference(const char* op, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF32:
      return body.template operator()<float>();
    case DType::kF64:
      return body.template operator()<double>();
    case DType::kC128:
#ifdef STRAKE_C128
      return body.template operator()<std::complex<double>>();
#else
      LOG(FATAL) << "[" << op
                 << "] complex numbers are for tests, which link //core/ops:c128 first";
#endif
    default:
      LOG(FATAL) << "[" << op << "] no implementation for " << DTypeName(dtype);
  }
}

// Returns whether the CPU's kernels (core/ops/cpu/isa.h) run. They run for f32 and bf16; the
// reference runs for other dtypes, and for f32 under OpSet::kReference. bf16 under kReference is a
// CHECK failure, because no reference supports it.
inline bool HasCpuKernels(const char* op, const Context& ctx, DType dtype) {
  CHECK(dtype != DType::kBf16 || !ctx.reference()) << "[" << op << "] bf16 has no definition";
  return dtype == DType::kBf16 || (dtype == DType::kF32 && !ctx.reference());
}

// If HasCpuKernels(), calls body.template operator()<T>() for the dtype and returns true.
template <typename Body>
bool RunCpuKernels(const char* op, const Context& ctx, DType dtype, Body&& body) {
  if (!HasCpuKernels(op, ctx, dtype)) return false;
  if (dtype == DType::kBf16) {
    body.template operator()<Bf16>();
  } else {
    body.template operator()<float>();
  }
  return true;
}

// Returns whether the op runs on a GPU, which it does if its tensors are there. CHECKs that all
// defined tensors are on the device of the context's arena.
template <typename... Tensors>
bool OnCuda(const char* op, const Context& ctx, const Tensors&... tensors) {
  const Device device = ctx.arena().device();
  const auto check = [&](const Tensor& tensor) {
    CHECK(!tensor.defined() || tensor.device() == device)
        << "[" << op << "] " << tensor.ToString() << " is not where the context's arena is, on "
        << (device == Device::kCuda ? "the GPU" : "the CPU");
  };
  (check(tensors), ...);
  return device == Device::kCuda;
}

// Calls body.template operator()<T>() for the dtypes of CUDA kernels: f32 and bf16. Any other dtype
// is a CHECK failure that names the op.
template <typename Body>
absl::Status DispatchCuda(const char* op, DType dtype, Body&& body) {
  CHECK(dtype == DType::kF32 || dtype == DType::kBf16)
      << "[" << op << "] no CUDA implementation for " << DTypeName(dtype);
  return dtype == DType::kF32 ? body.template operator()<float>()
                              : body.template operator()<Bf16>();
}

// CHECKs that `grad`, unless it is undefined, has the shape of the parameter `value` and the dtype
// that its gradient accumulates in.
inline void CheckGradient(const char* op, const Tensor& value, const Tensor& grad) {
  CHECK(!grad.defined() ||
        (grad.shape() == value.shape() && grad.dtype() == AccumulationDType(value.dtype())))
      << "[" << op << "] parameter " << value.ToString() << ", its gradient " << grad.ToString();
}

// CHECKs the residual that an op first adds to x, and the tensor that receives the sum. Both must
// be like x, or undefined.
inline void CheckResidual(const char* op, const Tensor& x, const Tensor& residual,
                          const Tensor& sum) {
  const auto like_x = [&](const Tensor& tensor) {
    return tensor.shape() == x.shape() && tensor.dtype() == x.dtype();
  };
  CHECK(residual.defined() == sum.defined() &&
        (!residual.defined() || (like_x(residual) && like_x(sum))))
      << "[" << op << "] x " << x.ToString() << ", residual " << residual.ToString() << ", sum "
      << sum.ToString();
}

// Pointer to the elements of a matrix from row `first_row` on; null for an undefined matrix.
template <typename T>
T* RowsOrNull(const Tensor& matrix, int64_t first_row = 0) {
  return matrix.defined() ? matrix.data<T>() + first_row * matrix.dim(1) : nullptr;
}

// Pointer to a tensor's elements; null for an undefined one.
template <typename T>
T* DataOrNull(const Tensor& tensor) {
  return tensor.defined() ? tensor.data<T>() : nullptr;
}

// Rows per ParallelFor range: enough that a range is worth a thread.
inline int64_t RowGrain(int64_t row_elements) {
  constexpr int64_t kGrainElements = 4096;
  return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, row_elements));
}

// Columns per ParallelFor range: whole cache lines, so that no two threads write to the same line.
inline constexpr int64_t kColumnGrain = kTensorAlignment / sizeof(float);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_DISPATCH_H_
