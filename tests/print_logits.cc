// Prints a checkpoint's logits after each token as one JSON array, for check_export.py:
// print_logits CHECKPOINT TOKEN...

#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "tests/checkpoint_logits.h"
#include "tools/cli/program.h"

namespace strake {
namespace {

absl::Status PrintLogits(int argc, char** argv) {
  if (argc < 3) return absl::InvalidArgumentError("usage: print_logits CHECKPOINT TOKEN...");
  const std::string directory = argv[1];
  std::vector<int32_t> tokens(argc - 2);
  for (int i = 2; i < argc; ++i) {
    if (!absl::SimpleAtoi(argv[i], &tokens[i - 2])) {
      return absl::InvalidArgumentError(std::string("not a token: ") + argv[i]);
    }
  }
  STRAKE_ASSIGN_OR_RETURN(const std::vector<float> logits,
                          testing::CheckpointLogits(directory, tokens));
  std::cout << nlohmann::json(logits) << "\n";
  return absl::OkStatus();
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ExitCode(strake::PrintLogits(argc, argv)); }
