#include "tools/checking/check_step.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "core/tensor/sequence_chunks.h"

namespace strake {
namespace {

double NumTokens(const CheckConfig& config) {
  return static_cast<double>(config.global_batch * config.seq_len);
}

Tensor TensorOf(std::vector<int32_t>& values) {
  return Tensor(values.data(), DType::kI32, {static_cast<int64_t>(values.size())});
}

// Adds the gradients of the mean loss over the global batch; returns the sum of this rank's losses.
// As in the trainer, data-parallel ranks take turns at the micro-batches.
absl::Status ComputeGradients(const CheckConfig& config, const StepBatch& batch, Engine& engine,
                              Progress* screen) {
  const MeshVector sizes = engine.mesh().sizes();
  const int64_t per_pass = config.micro_batch * sizes.dp;
  const int64_t mine = config.micro_batch * engine.mesh().coordinates().dp;
  const SequenceChunks chunks = {engine.mesh().coordinates().cp, sizes.cp};
  const auto local = [&](const Tensor& all, int64_t first_sequence) {
    return chunks.Take(all.data<int32_t>() + first_sequence * config.seq_len, config.micro_batch,
                       config.seq_len);
  };
  for (int64_t done = 0; done < config.global_batch; done += per_pass) {
    if (engine.mesh().rank() == 0) {
      screen->Work({.what = "computing a step",
                    .done = static_cast<double>(done),
                    .total = static_cast<double>(config.global_batch),
                    .unit = WorkUnit::kCount});
    }
    const bool last = done + per_pass >= config.global_batch;
    std::vector<int32_t> tokens = local(batch.tokens.tensor(), done + mine);
    std::vector<int32_t> targets = local(batch.targets.tensor(), done + mine);
    STRAKE_RETURN_IF_ERROR(engine.AccumulateGradients(TensorOf(tokens), TensorOf(targets),
                                                      1 / NumTokens(config), last));
  }
  return engine.SumGradients();
}

// The largest number of terms in a sum, except sums over the vocabulary. A layout splits sums, and
// adds its ranks' parts.
double LongestSum(const CheckCommand& command, const MeshVector& sizes) {
  const ModelConfig& c = command.model;
  const int64_t longest = std::max({c.hidden_size, c.intermediate_size, c.num_heads * c.head_dim,
                                    command.config.global_batch * command.config.seq_len});
  return static_cast<double>(longest + sizes.tp + sizes.dp * sizes.cp);
}

// The relative change of a number by one rounding to the dtype. In f32 half a unit in the last
// place of 1. bf16's coarser roundings are fewer, so there is less to average over: the root mean
// square over numbers of all sizes, 0.85 * 2^-9, as it is.
double RoundingOf(DType dtype) { return dtype == DType::kBf16 ? 0x1p-9 : 0x1p-24; }

// Moves every value up or down by one `rounding`.
void Perturb(uint64_t seed, double rounding, const Tensor& values) {
  const Philox random(seed, RandomUse::kTesting, StableHash("rounding"));
  double* x = values.data<double>();
  uint64_t bits = 0;
  for (int64_t i = 0; i < values.num_elements(); ++i, bits >>= 1) {
    if (i % 64 == 0) bits = random.Bits(i / 64);
    x[i] *= 1 + ((bits & 1) != 0 ? rounding : -rounding);
  }
}

double RelativeError(double actual, double truth) {
  LargestDifference difference;
  difference.Add(actual, truth, 0);
  return difference.RelativeTo(std::abs(truth));
}

double Norm(const Tensor& x) {
  double sum = 0;
  for (int64_t i = 0; i < x.num_elements(); ++i) sum += x.data<double>()[i] * x.data<double>()[i];
  return std::sqrt(sum);
}

CheckLine CountLine(const char* name, const char* what, int64_t count) {
  return {.name = name, .tensor = what, .error = static_cast<double>(count)};
}

// Uses its own engine, after the truth's has been destroyed.
absl::Status MeasureSensitivities(const CheckCommand& command, const StepBatch& batch,
                                  Progress* screen, WholeStep* truth) {
  const Mesh mesh = Mesh::SingleRank();
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                          MakeCheckEngine(command, command.TruthOptions(), mesh));
  const ParameterArena& parameters = engine->parameters();
  Perturb(static_cast<uint64_t>(command.config.seed),
          RoundingOf(command.config.machine.dtype_kind()), parameters.values());
  STRAKE_RETURN_IF_ERROR(ComputeGradients(command.config, batch, *engine, screen));
  STRAKE_ASSIGN_OR_RETURN(const Engine::Agreement all, engine->Agree(/*stop=*/false));
  truth->loss_sensitivity = RelativeError(all.loss_sum / NumTokens(command.config), truth->loss);
  const Tensor& grads = engine->grads().front().values;  // of the one rank: all
  truth->norm_sensitivity = RelativeError(Norm(grads), truth->grads.Norm());
  truth->grad_sensitivities = truth->grads.RelativeErrors(parameters, grads);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> MakeCheckEngine(const CheckCommand& command,
                                                        const EngineOptions& options,
                                                        const Mesh& mesh) {
  STRAKE_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::Create(options, mesh));
  STRAKE_RETURN_IF_ERROR(SetCheckWeights(command.config, *engine));
  return engine;
}

absl::StatusOr<std::unique_ptr<WholeStep>> ComputeWholeStep(const CheckCommand& command,
                                                            const StepBatch& batch,
                                                            Progress* screen) {
  const Mesh mesh = Mesh::SingleRank();
  STRAKE_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine,
                          MakeCheckEngine(command, command.TruthOptions(), mesh));
  STRAKE_RETURN_IF_ERROR(ComputeGradients(command.config, batch, *engine, screen));
  STRAKE_ASSIGN_OR_RETURN(const Engine::Agreement all, engine->Agree(/*stop=*/false));
  const ParameterArena& parameters = engine->parameters();
  std::unique_ptr<WholeStep> truth(
      new WholeStep{.loss = all.loss_sum / NumTokens(command.config),
                    .weights = WholeTensors(parameters, parameters.values()),
                    .grads = WholeTensors(parameters, engine->grads().front().values)});
  engine.reset();
  STRAKE_RETURN_IF_ERROR(MeasureSensitivities(command, batch, screen, truth.get()));
  return truth;
}

StepComparison::StepComparison(const CheckCommand* command, const StepBatch* batch,
                               const WholeStep* truth, const EngineOptions& options,
                               const MeshVector& sizes, Progress* screen)
    : command_(*command),
      batch_(*batch),
      truth_(*truth),
      sizes_(sizes),
      screen_(screen),
      weights_(&truth->weights, sizes.dp * sizes.cp),
      grads_(&truth->grads, options.gradients.zero > 0 ? 1 : sizes.dp * sizes.cp) {}

absl::Status StepComparison::Run(Engine& engine) {
  const ParameterArena& parameters = engine.parameters();
  const int rank = NumRanks(sizes_) > 1 ? engine.mesh().rank() : -1;
  STRAKE_RETURN_IF_ERROR(Add(rank, parameters, {0, parameters.values()}, &weights_));
  STRAKE_RETURN_IF_ERROR(ComputeGradients(command_.config, batch_, engine, screen_));
  for (const ArenaPart& part : engine.grads()) {
    STRAKE_RETURN_IF_ERROR(Add(rank, parameters, part, &grads_));
  }
  // For the norm alone: the weights are not used again.
  STRAKE_ASSIGN_OR_RETURN(const double norm, engine.Update({.lr = 0}, /*clip_norm=*/0));
  STRAKE_ASSIGN_OR_RETURN(const Engine::Agreement all, engine.Agree(/*stop=*/false));
  const std::lock_guard<std::mutex> lock(mutex_);
  loss_.Add(all.loss_sum / NumTokens(command_.config), truth_.loss, 0, rank);
  norm_.Add(norm, truth_.grads.Norm(), 0, rank);
  return absl::OkStatus();
}

absl::Status StepComparison::Add(int rank, const ParameterArena& parameters, const ArenaPart& part,
                                 ShardComparison* comparison) {
  STRAKE_ASSIGN_OR_RETURN(const HostCopy host, HostCopy::Of(part.values));
  const std::lock_guard<std::mutex> lock(mutex_);
  comparison->Add(rank, parameters, part.range(), host);
  return absl::OkStatus();
}

// A number of the backward pass has passed through a chain of sums: 12 in each layer and 3 of the
// embedding, last norm and head, in both directions, and the weight gradient's; and two more over
// the vocabulary, of the loss and of the head's input gradient. A sum of n terms errs by sqrt(n)
// roundings to f32. In bf16 its result is then stored, as are the results of the elementwise ops
// between sums, and there are at most as many of these stores as sums. Roundings add up as
// independent numbers do; the largest of a tensor's many errors is about four times their root mean
// square.
//
// This holds for weights that neither magnify nor cancel. Trained weights do: at a minimum the
// gradients of tokens nearly cancel. One rounding of each weight then moves a gradient by its
// sensitivity, and the error of a sum by that sensitivity times the number of its roundings; the
// factor four covers the tail. Where this exceeds a limit, the dtype says little about the
// gradient. That is reported as an error, too: without a limit, a wrong gradient would pass.
double StepComparison::Tolerance(double sensitivity) const {
  const bool bf16 = command_.config.machine.dtype_kind() == DType::kBf16;
  const double limit = bf16 ? 1.0 / 4 : 1.0 / 64;
  const double f32 = RoundingOf(DType::kF32), store = bf16 ? RoundingOf(DType::kBf16) : 0;
  const double longest = LongestSum(command_, sizes_);
  const double num_sums = 2.0 * static_cast<double>(12 * command_.model.num_layers + 3) + 1;
  const double sum = std::hypot(std::sqrt(longest) * f32, store);
  const double vocab = std::sqrt(2.0 * static_cast<double>(command_.model.vocab_size)) * f32;
  const double chain = 4 * std::hypot(std::sqrt(num_sums) * sum, vocab);
  const double magnified = 4 * sum / (bf16 ? store : f32) * sensitivity;
  return std::min(limit, std::max(chain, magnified));
}

std::vector<CheckLine> StepComparison::Lines() const {
  std::vector<CheckLine> lines;
  const auto add_number = [&](const char* name, const LargestDifference& difference, double truth,
                              double sensitivity) {
    lines.push_back({.name = name,
                     .tensor = "value",
                     .error = difference.RelativeTo(std::abs(truth)),
                     .tolerance = Tolerance(sensitivity),
                     .rank = difference.rank()});
  };
  // Weights must be equal, not just close; one line reports all of them.
  const size_t num_tensors = truth_.weights.entries().size();
  for (CheckLine& line : weights_.Lines("weight", std::vector<double>(num_tensors, 0.0))) {
    if (!line.ok()) lines.push_back(std::move(line));
  }
  if (lines.empty()) lines.push_back(CountLine("weights", "elements that differ", 0));
  const ShardCoverage weights = weights_.Coverage();
  lines.push_back(CountLine("weights", "elements not held as declared", weights.num_missed));
  add_number("loss", loss_, truth_.loss, truth_.loss_sensitivity);
  std::vector<double> tolerances;
  for (const double x : truth_.grad_sensitivities) tolerances.push_back(Tolerance(x));
  std::vector<CheckLine> grads = grads_.Lines("gradient", tolerances);
  std::move(grads.rbegin(), grads.rend(), std::back_inserter(lines));
  add_number("gradient norm", norm_, truth_.grads.Norm(), truth_.norm_sensitivity);
  const ShardCoverage coverage = grads_.Coverage();
  lines.push_back(CountLine("coverage", "elements not compared as held", coverage.num_missed));
  lines.push_back(CountLine("replicas", "copies with other bits", coverage.num_different));
  lines.push_back(CountLine("padding", "elements not 0", coverage.num_dirty + weights.num_dirty));
  return lines;
}

}  // namespace strake
