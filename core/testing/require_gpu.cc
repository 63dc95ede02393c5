#include "core/testing/require_gpu.h"

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/cuda/cuda_runtime.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

// Reads the arguments from the system, because GoogleTest's main() keeps them to itself.
std::string ProgramArguments() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

bool GpuIsRequired(const std::string& null_separated_arguments, const char* variable) {
  constexpr absl::string_view kArgument("\0--require_gpu\0", 15);
  return absl::StrContains(null_separated_arguments, kArgument) ||
         (variable != nullptr && absl::string_view(variable) == "1");
}

void RequireGpu() {
  // Checked once: a GPU that cannot be used for the first test cannot be used for the others.
  static const auto* status = new absl::Status(SetCudaDevice(0));
  if (status->ok()) return;
  const bool required = GpuIsRequired(ProgramArguments(), std::getenv("STRAKE_REQUIRE_GPU"));
  if (required) FAIL() << "no usable GPU, and one is required: " << status->message();
  GTEST_SKIP() << "no usable GPU: " << status->message();
}

}  // namespace strake::testing
