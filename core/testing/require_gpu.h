// Tests that need a GPU. Without a usable GPU they are skipped, with the reason. They fail instead
// with --require_gpu among the program's arguments (`bazel test --test_arg=--require_gpu`) or
// STRAKE_REQUIRE_GPU=1 in its environment (`--test_env=STRAKE_REQUIRE_GPU=1`).
#ifndef STRAKE_CORE_TESTING_REQUIRE_GPU_H_
#define STRAKE_CORE_TESTING_REQUIRE_GPU_H_

#include <string>

namespace strake::testing {

// For SetUp(): skips or fails the test unless it has a GPU, device 0, that this binary can use. A
// binary in which every test needs one links :every_test_requires_gpu instead, and calls nothing.
void RequireGpu();

// Returns whether a missing GPU is a failure, given the program's arguments and the variable's
// value (null if it is not set).
bool GpuIsRequired(const std::string& null_separated_arguments, const char* variable);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_REQUIRE_GPU_H_
