// What the compiler made of each kernel: registers, spills, static shared memory.
#ifndef STRAKE_TOOLS_KERNELS_COMPILED_KERNELS_H_
#define STRAKE_TOOLS_KERNELS_COMPILED_KERNELS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

struct CompiledKernel {
  int64_t registers = 0;     // of a thread
  int64_t spill_bytes = 0;   // stored and loaded, by a thread
  int64_t shared_bytes = 0;  // of a block, static
  bool operator==(const CompiledKernel&) const = default;
};
using CompiledKernels = std::map<std::string, CompiledKernel>;  // by ShortKernelName()

// "ElementwiseKernel<Gelu, Bf16, 8>" from the name that nvcc gives the symbol, or from gcc's
// spelling of it (core/cuda/kernel_name.h): without Strake's namespaces and without parameters.
std::string ShortKernelName(absl::string_view name);

// Reads what `nvcc -Xptxas -v` prints, of one architecture ("sm_90a"); figures of others are
// skipped. A kernel that several sources have, by the same name, has the largest of their figures.
// InvalidArgument for a kernel without figures.
absl::StatusOr<CompiledKernels> ParsePtxas(absl::string_view text, absl::string_view architecture);

}  // namespace strake

#endif  // STRAKE_TOOLS_KERNELS_COMPILED_KERNELS_H_
