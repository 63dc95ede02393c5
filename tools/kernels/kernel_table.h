// The table of Strake's kernels on an H200: what the compiler made of each, and how each launch of
// a training step fills the GPU. docs/cuda.md, "What the compiler made", explains its columns.
#ifndef STRAKE_TOOLS_KERNELS_KERNEL_TABLE_H_
#define STRAKE_TOOLS_KERNELS_KERNEL_TABLE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tools/kernels/compiled_kernels.h"
#include "tools/kernels/occupancy.h"
#include "tools/kernels/step_launches.h"

namespace strake {

// The table that is committed.
inline constexpr char kKernelTablePath[] = "tools/kernels/h200.txt";

struct KernelTable {
  CompiledKernels compiled = {};
  std::vector<StepLaunches> steps = {};
};

// A kernel that no build has compiled, or that cannot run, is NotFound or InvalidArgument.
absl::StatusOr<std::string> KernelTableText(const KernelTable& table);

// Reads the first part of a table's text back, or returns InvalidArgument, with the line.
absl::StatusOr<CompiledKernels> CompiledKernelsOf(absl::string_view table_text);

// The table of this build: of the kernels that it compiled for sm_90a, or, where it compiled none,
// of those in the text of the `committed` table; and of the launches of H200Steps().
absl::StatusOr<KernelTable> CurrentKernelTable(absl::string_view committed);

// One sentence for each kernel that
//   * spills registers, or
//   * may take 1 % of a step, runs in more than one wave, and leaves 5 % of its time or more idle
//     because its last wave is less than half full. With twenty waves or more that cannot be.
std::vector<std::string> KernelFaults(const KernelTable& table);

}  // namespace strake

#endif  // STRAKE_TOOLS_KERNELS_KERNEL_TABLE_H_
