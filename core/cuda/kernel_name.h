// Names of kernels, for messages.
#ifndef STRAKE_CORE_CUDA_KERNEL_NAME_H_
#define STRAKE_CORE_CUDA_KERNEL_NAME_H_

#include <algorithm>
#include <string>

namespace strake {

// "strake::{anonymous}::SumKernel<float>", in the compiler's spelling, which differs between
// compilers.
template <auto kKernel>
std::string KernelName() {
  const std::string signature = __PRETTY_FUNCTION__;
  const std::string before = "kKernel = ";
  const size_t begin = signature.find(before) + before.size();
  // gcc continues with "; std::string = ...]".
  return signature.substr(begin, std::min(signature.find(';'), signature.rfind(']')) - begin);
}

}  // namespace strake

#endif  // STRAKE_CORE_CUDA_KERNEL_NAME_H_
