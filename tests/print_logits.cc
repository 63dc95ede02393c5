// Prints a checkpoint's logits after each token as one JSON array, for check_export.py:
// print_logits CHECKPOINT TOKEN...

#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "core/base/status_macros.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/families/families.h"
#include "models/transformer.h"
#include "nlohmann/json.hpp"
#include "parallel/mesh/mesh.h"
#include "tools/cli/program.h"
#include "train/engine/engine.h"

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
  const int64_t num_tokens = tokens.size();
  STRAKE_ASSIGN_OR_RETURN(const ModelConfig config,
                          ReadHfConfig(directory + "/config.json", nullptr));
  const Mesh mesh = Mesh::SingleRank();
  STRAKE_ASSIGN_OR_RETURN(
      const std::unique_ptr<Engine> engine,
      Engine::Create({.model = config, .seq_len = num_tokens, .micro_batch = 1}, mesh));
  STRAKE_RETURN_IF_ERROR(LoadWeights(directory, *config.family, engine->parameters()));
  TransformerSaved saved;
  STRAKE_ASSIGN_OR_RETURN(
      const Tensor logits,
      engine->model().Logits(engine->context(), Tensor(tokens.data(), DType::kI32, {num_tokens}),
                             num_tokens, &saved));
  const float* values = logits.data<float>();
  std::cout << nlohmann::json(std::vector<float>(values, values + logits.num_elements())) << "\n";
  return absl::OkStatus();
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ExitCode(strake::PrintLogits(argc, argv)); }
