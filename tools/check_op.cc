#include "tools/check_op.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "absl/types/span.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "core/tensor/tensor_buffer.h"

namespace strake {
namespace {

// The tensors of an op in one dtype, and its scratch.
class Operands {
 public:
  static absl::StatusOr<Operands> Create(const OpCheck& check, DType dtype, size_t scratch_bytes) {
    Operands operands;
    for (const OpTensor& tensor : check.tensors) {
      const size_t bytes = NumElements(tensor.shape) * DTypeSize(dtype);
      STRAKE_ASSIGN_OR_RETURN(HostMemory memory, HostMemory::Allocate(bytes));
      operands.tensors.emplace_back(memory.data(), dtype, tensor.shape);
      operands.memory_.push_back(std::move(memory));
    }
    STRAKE_ASSIGN_OR_RETURN(ActivationArena arena, ActivationArena::Create(scratch_bytes));
    operands.arena.emplace(std::move(arena));
    return operands;
  }

  std::vector<Tensor> tensors;
  std::optional<ActivationArena> arena;

 private:
  std::vector<HostMemory> memory_;
};

// What a dry run of the op allocates.
size_t ScratchBytes(const OpCheck& check, ThreadTeam& team, OpSet op_set, DType dtype) {
  std::vector<Tensor> tensors;
  for (const OpTensor& tensor : check.tensors) tensors.emplace_back(nullptr, dtype, tensor.shape);
  ActivationArena plan = ActivationArena::DryRun();
  const Context ctx(&team, &plan, op_set);
  const auto peak = [&](const OpCheck::Run& run) {
    const ActivationScope scope(plan);
    // An error is met again, and told, by the run itself.
    if (run != nullptr) run(ctx, tensors).IgnoreError();
  };
  if (dtype == DType::kF64) peak(check.prepare);
  peak(check.run);
  return plan.peak_bytes();
}

void FillNormal(const OpTensor& tensor, uint64_t seed, uint64_t stream, ThreadTeam& team,
                const Tensor& x) {
  // Philox makes normal numbers in pairs.
  constexpr int64_t kGrain = 4096;
  const Philox random(seed, RandomUse::kTesting, stream);
  double* values = x.data<double>();
  team.ParallelFor(x.num_elements(), kGrain, [&](int64_t begin, int64_t end) {
    random.Normals(begin, absl::MakeSpan(values + begin, end - begin));
    for (int64_t i = begin; i < end; ++i) values[i] = tensor.mean + tensor.stddev * values[i];
  });
}

// f32 = f64, after rounding f64 to f32.
void Equalize(ThreadTeam& team, const Tensor& f64, const Tensor& f32) {
  double* from = f64.data<double>();
  float* to = f32.data<float>();
  team.ParallelFor(f64.num_elements(), kTensorAlignment, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      to[i] = static_cast<float>(from[i]);
      from[i] = to[i];
    }
  });
}

absl::Status SetInputs(const OpCheck& check, uint64_t seed, ThreadTeam& team, const Context& truth,
                       const Operands& f64, const Operands& f32) {
  for (size_t i = 0; i < check.tensors.size(); ++i) {
    const OpTensor& tensor = check.tensors[i];
    const uint64_t stream = StableHash(check.op + " " + tensor.name);
    if (tensor.role != OpRole::kOutput) FillNormal(tensor, seed, stream, team, f64.tensors[i]);
  }
  if (check.prepare != nullptr) {
    const ActivationScope scope(truth.arena());
    STRAKE_RETURN_IF_ERROR(check.prepare(truth, f64.tensors));
  }
  for (size_t i = 0; i < check.tensors.size(); ++i) {
    const Tensor &wide = f64.tensors[i], &narrow = f32.tensors[i];
    if (check.tensors[i].role == OpRole::kOutput) {
      std::fill_n(wide.data<double>(), wide.num_elements(), std::nan(""));
    }
    Equalize(team, wide, narrow);
  }
  return absl::OkStatus();
}

CheckLine Compare(const OpCheck& check, const OpTensor& tensor, const Tensor& actual,
                  const Tensor& truth) {
  LargestDifference difference;
  double scale = 0;
  for (int64_t i = 0; i < truth.num_elements(); ++i) {
    const double b = truth.data<double>()[i];
    if (std::isfinite(b)) scale = std::max(scale, std::abs(b));
    difference.Add(actual.data<float>()[i], b, i);
  }
  return {.name = check.op,
          .pass = PassName(check.pass),
          .tensor = tensor.name,
          .shape = tensor.shape,
          .layers = check.layers,
          .error = difference.RelativeTo(scale),
          .tolerance = RoundingTolerance(tensor.num_terms, tensor.num_roundings),
          .index = Coordinates(difference.index(), tensor.shape)};
}

}  // namespace

size_t OpCheckBytes(const OpCheck& check, ThreadTeam& team, OpSet op_set) {
  size_t bytes = ScratchBytes(check, team, OpSet::kReference, DType::kF64) +
                 ScratchBytes(check, team, op_set, DType::kF32);
  for (const OpTensor& tensor : check.tensors) {
    bytes += NumElements(tensor.shape) * (sizeof(double) + sizeof(float));
  }
  return bytes;
}

absl::StatusOr<std::vector<CheckLine>> CheckOp(const OpCheck& check, uint64_t seed,
                                               ThreadTeam& team, OpSet op_set) {
  STRAKE_ASSIGN_OR_RETURN(
      Operands f64, Operands::Create(check, DType::kF64,
                                     ScratchBytes(check, team, OpSet::kReference, DType::kF64)));
  STRAKE_ASSIGN_OR_RETURN(
      Operands f32,
      Operands::Create(check, DType::kF32, ScratchBytes(check, team, op_set, DType::kF32)));
  const Context truth(&team, &*f64.arena, OpSet::kReference);
  const Context checked(&team, &*f32.arena, op_set);
  STRAKE_RETURN_IF_ERROR(SetInputs(check, seed, team, truth, f64, f32));
  STRAKE_RETURN_IF_ERROR(check.run(truth, f64.tensors));
  STRAKE_RETURN_IF_ERROR(check.run(checked, f32.tensors));
  std::vector<CheckLine> lines;
  for (size_t i = 0; i < check.tensors.size(); ++i) {
    if (check.tensors[i].role == OpRole::kInput) continue;
    lines.push_back(Compare(check, check.tensors[i], f32.tensors[i], f64.tensors[i]));
  }
  return lines;
}

}  // namespace strake
