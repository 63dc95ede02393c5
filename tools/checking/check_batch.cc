#include "tools/checking/check_batch.h"

#include <algorithm>
#include <cstdint>
#include <memory>

#include "absl/strings/str_cat.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/memory/parameter_arena.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/initialize.h"
#include "models/transformer.h"
#include "tools/cli/user_paths.h"
#include "train/run/trainer_options.h"
#include "train/run/training_data.h"

namespace strake {
namespace {

void FillRandomTokens(uint64_t seed, uint64_t stream, int64_t vocab_size, const Tensor& x) {
  const Philox random(seed, RandomUse::kTesting, stream);
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    x.data<int32_t>()[i] = static_cast<int32_t>(random.Bits(i) % vocab_size);
  }
}

absl::Status SetRandomWeights(const CheckConfig& config, Engine& engine) {
  ParameterArena& parameters = engine.parameters();
  const double stddev = engine.options().model.initializer_range;
  for (ParameterRecord& record : parameters.records()) {
    if (record.init.stddev == 0) record.init.stddev = stddev;
  }
  return InitializeParameters(config.seed, engine.team(), &parameters);
}

// Rounds every value to f32 or bf16.
void RoundTo(DType dtype, const Tensor& f64) {
  double* values = f64.data<double>();
  std::transform(values, values + f64.num_elements(), values, [dtype](double x) {
    const float single = static_cast<float>(x);
    return dtype == DType::kBf16 ? static_cast<float>(Bf16(single)) : single;
  });
}

}  // namespace

absl::StatusOr<StepBatch> LoadStepBatch(const CheckCommand& command) {
  const CheckConfig& config = command.config;
  const Shape shape = {config.global_batch * config.seq_len};
  StepBatch batch = {TensorBuffer(DType::kI32, shape), TensorBuffer(DType::kI32, shape)};
  if (config.train_data.empty()) {
    FillRandomTokens(config.seed, StableHash("tokens"), command.model.vocab_size, batch.tokens);
    FillRandomTokens(config.seed, StableHash("targets"), command.model.vocab_size, batch.targets);
    return batch;
  }
  TrainerOptions training;
  training.engine.model = command.model;
  training.engine.seq_len = config.seq_len;
  training.seed = config.seed;
  training.names.train_files = "--train_data";
  STRAKE_ASSIGN_OR_RETURN(training.train_files, FilesOfFlag("--train_data", config.train_data));
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<TrainingData> data, TrainingData::Open(training));
  if (data->has_documents()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--train_data=", config.train_data,
                     " has conversations; the check needs text without their answers marked"));
  }
  STRAKE_RETURN_IF_ERROR(
      data->train_loader().Load(0, config.global_batch, batch.tokens, batch.targets));
  return batch;
}

absl::Status CheckInitFrom(const CheckCommand& command, const OnWork& on_work) {
  if (command.config.init_from.empty()) return absl::OkStatus();
  ParameterArena parameters;
  const Transformer model(command.model, command.config.seq_len, &parameters);
  STRAKE_RETURN_IF_ERROR(parameters.Allocate(DType::kF32, /*with_gradients=*/false));
  return LoadWeights(command.config.init_from, *command.model.family, parameters, on_work);
}

absl::Status SetCheckWeights(const CheckConfig& config, Engine& engine) {
  STRAKE_RETURN_IF_ERROR(
      config.init_from.empty()
          ? SetRandomWeights(config, engine)
          : LoadWeights(config.init_from, *engine.options().model.family, engine.parameters()));
  const Tensor& values = engine.parameters().values();
  if (values.dtype() == DType::kF64) RoundTo(config.machine.dtype_kind(), values);
  return engine.optimizer().SetMasters();
}

}  // namespace strake
