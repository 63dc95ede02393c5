// Expansions of an op's list of CUDA kernels.
//
// A kernel is a function of a stream and of one struct of arguments, which is named after the
// kernel. The header NAME_cuda.h declares the kernels and lists each of them once, with the two
// types that it is instantiated for, or with none if it is not a template:
//
//   #define STRAKE_NAME_KERNELS(KERNEL) KERNEL(NameForward, float, Bf16) KERNEL(NameScale)
//
// The list expands to the instances of NAME_cuda.cu, and in a build without CUDA to functions that
// return an error (strake_cuda_kernel in core/cuda.bzl).
#ifndef STRAKE_CORE_CUDA_KERNEL_LIST_H_
#define STRAKE_CORE_CUDA_KERNEL_LIST_H_

#define STRAKE_KERNEL_INSTANCES(Kernel, ...) \
  __VA_OPT__(STRAKE_TWO_KERNEL_INSTANCES(Kernel, __VA_ARGS__))

#define STRAKE_TWO_KERNEL_INSTANCES(Kernel, T, U)                      \
  template absl::Status Kernel<T>(CudaStream, const Kernel##Args<T>&); \
  template absl::Status Kernel<U>(CudaStream, const Kernel##Args<U>&);

#define STRAKE_ABSENT_KERNEL(Kernel, ...)                                                   \
  __VA_OPT__(template <typename T>)                                                         \
  absl::Status Kernel(CudaStream, const Kernel##Args __VA_OPT__(<T>)&) { return NoCuda(); } \
  STRAKE_KERNEL_INSTANCES(Kernel __VA_OPT__(, ) __VA_ARGS__)

#endif  // STRAKE_CORE_CUDA_KERNEL_LIST_H_
