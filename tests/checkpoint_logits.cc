#include "tests/checkpoint_logits.h"

#include <memory>

#include "core/base/dtype.h"
#include "core/base/status_macros.h"
#include "models/checkpoint/model_files.h"
#include "models/transformer.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine.h"

namespace strake::testing {

absl::StatusOr<std::vector<float>> CheckpointLogits(const std::string& directory,
                                                    std::vector<int32_t> tokens) {
  const auto num_tokens = static_cast<int64_t>(tokens.size());
  STRAKE_ASSIGN_OR_RETURN(const ModelFiles files,
                          FindModelFiles(directory, /*base=*/"", /*notices=*/nullptr));
  STRAKE_ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(files, /*notices=*/nullptr));
  const Mesh mesh = Mesh::SingleRank();
  STRAKE_ASSIGN_OR_RETURN(
      const std::unique_ptr<Engine> engine,
      Engine::Create({.model = config, .seq_len = num_tokens, .micro_batch = 1}, mesh));
  STRAKE_RETURN_IF_ERROR(LoadModel(files, config, engine->parameters()));
  TransformerSaved saved;
  STRAKE_ASSIGN_OR_RETURN(
      const Tensor logits,
      engine->model().Logits(engine->context(), Tensor(tokens.data(), DType::kI32, {num_tokens}),
                             num_tokens, &saved));
  const float* const values = logits.data<float>();
  return std::vector<float>(values, values + logits.num_elements());
}

}  // namespace strake::testing
