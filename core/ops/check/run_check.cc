#include "core/ops/check/run_check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "absl/types/span.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "core/memory/device_memory.h"
#include "core/ops/check/rounding.h"
#include "core/tensor/tensor_buffer.h"

namespace strake {
namespace {

// One of the two runs: the checked op, or the reference.
struct Side {
  OpMachine machine;
  bool truth = false;

  DType DTypeOf(const OpTensor& tensor) const {
    const bool real = tensor.dtype != DType::kI32 && tensor.dtype != DType::kI64;
    return truth && real ? DType::kF64 : tensor.dtype;
  }
};

Side TruthOf(const OpMachine& machine) {
  return {{.team = machine.team, .op_set = OpSet::kReference}, /*truth=*/true};
}

bool HoldsTokens(const OpTensor& tensor) { return tensor.dtype == DType::kI32; }
bool HoldsSums(const OpTensor& tensor) { return tensor.dtype == DType::kI64; }

// The tensors of an op for one of the two runs, and its scratch.
class Operands {
 public:
  static absl::StatusOr<Operands> Create(const OpCheck& check, const Side& side,
                                         size_t scratch_bytes) {
    const OpMachine& machine = side.machine;
    Operands operands;
    for (const OpTensor& tensor : check.tensors) {
      STRAKE_ASSIGN_OR_RETURN(
          DeviceBuffer buffer,
          DeviceBuffer::Create(machine.device, side.DTypeOf(tensor), tensor.shape));
      operands.tensors.push_back(buffer.tensor());
      operands.memory_.push_back(std::move(buffer));
    }
    STRAKE_ASSIGN_OR_RETURN(ActivationArena arena,
                            ActivationArena::Create(scratch_bytes, machine.device));
    operands.arena.emplace(std::move(arena));
    return operands;
  }

  Context MakeContext(const OpMachine& machine) {
    Context ctx(machine.team, &*arena, machine.op_set);
    ctx.set_cuda(machine.cuda);
    return ctx;
  }

  std::vector<Tensor> tensors;
  std::optional<ActivationArena> arena;

 private:
  std::vector<DeviceBuffer> memory_;
};

// Returns what a dry run of the op allocates.
size_t ScratchBytes(const OpCheck& check, const Side& side) {
  const OpMachine& machine = side.machine;
  std::vector<Tensor> tensors;
  for (const OpTensor& tensor : check.tensors) {
    tensors.emplace_back(nullptr, side.DTypeOf(tensor), tensor.shape, machine.device);
  }
  ActivationArena plan = ActivationArena::DryRun(machine.device);
  const Context ctx(machine.team, &plan, machine.op_set);
  const auto peak = [&](const OpCheck::Run& run) {
    const ActivationScope scope(plan);
    // Ignores an error here, because the run itself returns it.
    if (run != nullptr) run(ctx, tensors).IgnoreError();
  };
  if (side.truth) peak(check.prepare);
  peak(check.run);
  return plan.peak_bytes();
}

size_t TensorBytes(const OpTensor& tensor, const Side& side) {
  return NumElements(tensor.shape) * DTypeSize(side.DTypeOf(tensor));
}

size_t TensorBytes(const OpCheck& check, const Side& side) {
  size_t bytes = 0;
  for (const OpTensor& tensor : check.tensors) bytes += TensorBytes(tensor, side);
  return bytes;
}

// Sets the given ids, or generates ids whose frequency decreases as the id grows.
absl::Status SetTokens(const OpTensor& tensor, const Philox& random, const Tensor& truth,
                       const Tensor& checked) {
  int32_t* ids = truth.data<int32_t>();
  if (!tensor.ids.empty()) {
    std::copy(tensor.ids.begin(), tensor.ids.end(), ids);
    return CopyBlocking(truth, checked);
  }
  std::vector<double> normals(truth.num_elements());
  random.Normals(0, absl::MakeSpan(normals));
  for (size_t i = 0; i < normals.size(); ++i) {
    const double uniform = 0.5 * std::erfc(normals[i] * M_SQRT1_2);
    const double place = uniform * uniform * static_cast<double>(tensor.num_tokens);
    ids[i] = static_cast<int32_t>(std::min(place, static_cast<double>(tensor.num_tokens - 1)));
  }
  return CopyBlocking(truth, checked);
}

void FillNormal(const OpTensor& tensor, const Philox& random, ThreadTeam& team, const Tensor& x) {
  // Philox generates normal numbers in pairs.
  constexpr int64_t kGrain = 4096;
  double* values = x.data<double>();
  team.ParallelFor(x.num_elements(), kGrain, [&](int64_t begin, int64_t end) {
    random.Normals(begin, absl::MakeSpan(values + begin, end - begin));
    for (int64_t i = begin; i < end; ++i) values[i] = tensor.mean + tensor.stddev * values[i];
  });
}

// narrow = f64, after rounding f64 to T.
template <typename T>
void EqualizeAs(ThreadTeam& team, const Tensor& f64, const Tensor& narrow) {
  double* from = f64.data<double>();
  T* to = narrow.data<T>();
  team.ParallelFor(f64.num_elements(), kTensorAlignment, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      to[i] = T(static_cast<float>(from[i]));
      from[i] = static_cast<double>(static_cast<float>(to[i]));
    }
  });
}

// The same on any device.
absl::Status Equalize(ThreadTeam& team, const Tensor& f64, const Tensor& narrow) {
  if (narrow.dtype() == DType::kF64) return CopyBlocking(f64, narrow);
  STRAKE_ASSIGN_OR_RETURN(const HostCopy host, HostCopy::Of(narrow));
  narrow.dtype() == DType::kBf16 ? EqualizeAs<Bf16>(team, f64, host)
                                 : EqualizeAs<float>(team, f64, host);
  return host.WriteBack();
}

absl::Status SetInputs(const OpCheck& check, uint64_t seed, const Context& truth,
                       const Operands& f64, const Operands& checked) {
  ThreadTeam& team = truth.team();
  for (size_t i = 0; i < check.tensors.size(); ++i) {
    const OpTensor& tensor = check.tensors[i];
    const Philox random(seed, RandomUse::kTesting, StableHash(check.op + " " + tensor.name));
    if (HoldsTokens(tensor)) {
      STRAKE_RETURN_IF_ERROR(SetTokens(tensor, random, f64.tensors[i], checked.tensors[i]));
    } else if (HoldsSums(tensor)) {
      const Tensor& x = f64.tensors[i];
      const bool written = tensor.role == OpRole::kOutput;
      std::fill_n(x.data<int64_t>(), x.num_elements(),
                  written ? std::numeric_limits<int64_t>::max() : 0);
    } else if (tensor.role != OpRole::kOutput) {
      FillNormal(tensor, random, team, f64.tensors[i]);
    }
  }
  if (check.prepare != nullptr) {
    const ActivationScope scope(truth.arena());
    STRAKE_RETURN_IF_ERROR(check.prepare(truth, f64.tensors));
  }
  for (size_t i = 0; i < check.tensors.size(); ++i) {
    if (HoldsTokens(check.tensors[i])) continue;
    const Tensor& wide = f64.tensors[i];
    if (HoldsSums(check.tensors[i])) {
      STRAKE_RETURN_IF_ERROR(CopyBlocking(wide, checked.tensors[i]));
      continue;
    }
    if (check.tensors[i].role == OpRole::kOutput) {
      std::fill_n(wide.data<double>(), wide.num_elements(), std::nan(""));
    }
    STRAKE_RETURN_IF_ERROR(Equalize(team, wide, checked.tensors[i]));
  }
  return absl::OkStatus();
}

double Element(const Tensor& x, int64_t i) {
  switch (x.dtype()) {
    case DType::kF32:
      return x.data<float>()[i];
    case DType::kBf16:
      return static_cast<float>(x.data<Bf16>()[i]);
    case DType::kI64:
      return static_cast<double>(x.data<int64_t>()[i]);
    default:
      return x.data<double>()[i];
  }
}

bool HoldsBf16(const OpTensor& tensor) { return tensor.dtype == DType::kBf16; }

double Tolerance(const OpCheck& check, const OpTensor& tensor) {
  const Rounding& rounding = tensor.rounding;
  if (rounding.num_terms == 0 && rounding.num_roundings == 0) return 0;
  const double f32 = RoundingTolerance(rounding.num_terms, rounding.num_roundings);
  if (std::none_of(check.tensors.begin(), check.tensors.end(), HoldsBf16)) return f32;
  return f32 + Bf16Tolerance(rounding.num_stores + (HoldsBf16(tensor) ? 1 : 0));
}

OpCheckResult Compare(const OpCheck& check, const OpTensor& tensor, const Tensor& actual,
                      const Tensor& truth) {
  LargestDifference difference;
  double scale = 0;
  for (int64_t i = 0; i < truth.num_elements(); ++i) {
    const double b = Element(truth, i);
    if (std::isfinite(b)) scale = std::max(scale, std::abs(b));
    difference.Add(Element(actual, i), b, i);
  }
  return {.tensor = tensor.name,
          .shape = tensor.shape,
          .error = difference.RelativeTo(scale),
          .tolerance = Tolerance(check, tensor),
          .index = Coordinates(difference.index(), tensor.shape)};
}

}  // namespace

OpCheckBytes PlanOpCheck(const OpCheck& check, const OpMachine& machine) {
  const Side truth = TruthOf(machine), side = {machine};
  const size_t checked = ScratchBytes(check, side) + TensorBytes(check, side);
  OpCheckBytes bytes;
  bytes.host = ScratchBytes(check, truth) + TensorBytes(check, truth);
  if (machine.device == Device::kCpu) {
    bytes.host += checked;
    return bytes;
  }
  bytes.device = checked;
  // One tensor at a time is copied.
  size_t staging = 0;
  for (const OpTensor& tensor : check.tensors) {
    staging = std::max(staging, TensorBytes(tensor, side));
  }
  bytes.host += staging;
  return bytes;
}

absl::StatusOr<std::vector<OpCheckResult>> CheckOp(const OpCheck& check, uint64_t seed,
                                                   const OpMachine& machine) {
  const Side truth = TruthOf(machine), side = {machine};
  STRAKE_ASSIGN_OR_RETURN(Operands f64, Operands::Create(check, truth, ScratchBytes(check, truth)));
  STRAKE_ASSIGN_OR_RETURN(Operands checked,
                          Operands::Create(check, side, ScratchBytes(check, side)));
  const Context truth_ctx = f64.MakeContext(truth.machine);
  STRAKE_RETURN_IF_ERROR(SetInputs(check, seed, truth_ctx, f64, checked));
  STRAKE_RETURN_IF_ERROR(check.run(truth_ctx, f64.tensors));
  STRAKE_RETURN_IF_ERROR(check.run(checked.MakeContext(machine), checked.tensors));
  std::vector<OpCheckResult> results;
  for (size_t i = 0; i < check.tensors.size(); ++i) {
    if (check.tensors[i].role == OpRole::kInput) continue;
    STRAKE_ASSIGN_OR_RETURN(const HostCopy actual, HostCopy::Of(checked.tensors[i]));
    results.push_back(Compare(check, check.tensors[i], actual, f64.tensors[i]));
  }
  return results;
}

}  // namespace strake
