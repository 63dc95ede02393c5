#include "tools/checking/check_op.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/types/span.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "core/memory/device_memory.h"
#include "core/tensor/tensor_buffer.h"

namespace strake {
namespace {

DType DTypeIn(const OpTensor& tensor, DType model) {
  if (tensor.tokens.defined()) return DType::kI32;
  if (tensor.dtype == OpDType::kF64) return DType::kF64;
  return tensor.dtype == OpDType::kSum ? AccumulationDType(model) : model;
}

// The definition's run.
OpMachine Truth(const OpMachine& machine) {
  return {.team = machine.team, .op_set = OpSet::kReference, .dtype = DType::kF64};
}

// The tensors of an op for one of the two runs, and its scratch.
class Operands {
 public:
  static absl::StatusOr<Operands> Create(const OpCheck& check, const OpMachine& machine,
                                         size_t scratch_bytes) {
    Operands operands;
    for (const OpTensor& tensor : check.tensors) {
      STRAKE_ASSIGN_OR_RETURN(
          DeviceBuffer buffer,
          DeviceBuffer::Create(machine.device, DTypeIn(tensor, machine.dtype), tensor.shape));
      if (tensor.tokens.defined()) {
        STRAKE_RETURN_IF_ERROR(CopyBlocking(tensor.tokens, buffer.tensor()));
      }
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

// What a dry run of the op allocates.
size_t ScratchBytes(const OpCheck& check, const OpMachine& machine) {
  std::vector<Tensor> tensors;
  for (const OpTensor& tensor : check.tensors) {
    tensors.emplace_back(nullptr, DTypeIn(tensor, machine.dtype), tensor.shape, machine.device);
  }
  ActivationArena plan = ActivationArena::DryRun(machine.device);
  const Context ctx(machine.team, &plan, machine.op_set);
  const auto peak = [&](const OpCheck::Run& run) {
    const ActivationScope scope(plan);
    // An error is met again, and told, by the run itself.
    if (run != nullptr) run(ctx, tensors).IgnoreError();
  };
  if (machine.dtype == DType::kF64) peak(check.prepare);
  peak(check.run);
  return plan.peak_bytes();
}

size_t TensorBytes(const OpCheck& check, DType model) {
  size_t bytes = 0;
  for (const OpTensor& tensor : check.tensors) {
    bytes += NumElements(tensor.shape) * DTypeSize(DTypeIn(tensor, model));
  }
  return bytes;
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
    if (tensor.tokens.defined() || tensor.role == OpRole::kOutput) continue;
    FillNormal(tensor, seed, StableHash(check.op + " " + tensor.name), team, f64.tensors[i]);
  }
  if (check.prepare != nullptr) {
    const ActivationScope scope(truth.arena());
    STRAKE_RETURN_IF_ERROR(check.prepare(truth, f64.tensors));
  }
  for (size_t i = 0; i < check.tensors.size(); ++i) {
    if (check.tensors[i].tokens.defined()) continue;
    const Tensor& wide = f64.tensors[i];
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
    default:
      return x.data<double>()[i];
  }
}

double Tolerance(const OpTensor& tensor, DType model) {
  if (tensor.num_terms == 0 && tensor.num_roundings == 0) return 0;
  const double f32 = RoundingTolerance(tensor.num_terms, tensor.num_roundings);
  if (model != DType::kBf16) return f32;
  return f32 + Bf16Tolerance(tensor.num_stores + (tensor.dtype == OpDType::kModel ? 1 : 0));
}

CheckLine Compare(const OpCheck& check, const OpTensor& tensor, DType model, const Tensor& actual,
                  const Tensor& truth) {
  LargestDifference difference;
  double scale = 0;
  for (int64_t i = 0; i < truth.num_elements(); ++i) {
    const double b = truth.data<double>()[i];
    if (std::isfinite(b)) scale = std::max(scale, std::abs(b));
    difference.Add(Element(actual, i), b, i);
  }
  return {.name = check.op,
          .pass = PassName(check.pass),
          .tensor = tensor.name,
          .shape = tensor.shape,
          .layers = check.layers,
          .error = difference.RelativeTo(scale),
          .tolerance = Tolerance(tensor, model),
          .index = Coordinates(difference.index(), tensor.shape)};
}

}  // namespace

OpCheckBytes PlanOpCheck(const OpCheck& check, const OpMachine& machine) {
  const OpMachine truth = Truth(machine);
  const size_t checked = ScratchBytes(check, machine) + TensorBytes(check, machine.dtype);
  OpCheckBytes bytes;
  bytes.host = ScratchBytes(check, truth) + TensorBytes(check, truth.dtype);
  if (machine.device == Device::kCpu) {
    bytes.host += checked;
    return bytes;
  }
  bytes.device = checked;
  // One at a time is copied.
  size_t staging = 0;
  for (const OpTensor& tensor : check.tensors) {
    staging =
        std::max(staging, NumElements(tensor.shape) * DTypeSize(DTypeIn(tensor, machine.dtype)));
  }
  bytes.host += staging;
  return bytes;
}

absl::StatusOr<std::vector<CheckLine>> CheckOp(const OpCheck& check, uint64_t seed,
                                               const OpMachine& machine) {
  const OpMachine truth = Truth(machine);
  STRAKE_ASSIGN_OR_RETURN(Operands f64, Operands::Create(check, truth, ScratchBytes(check, truth)));
  STRAKE_ASSIGN_OR_RETURN(Operands checked,
                          Operands::Create(check, machine, ScratchBytes(check, machine)));
  const Context truth_ctx = f64.MakeContext(truth);
  STRAKE_RETURN_IF_ERROR(SetInputs(check, seed, truth_ctx, f64, checked));
  STRAKE_RETURN_IF_ERROR(check.run(truth_ctx, f64.tensors));
  STRAKE_RETURN_IF_ERROR(check.run(checked.MakeContext(machine), checked.tensors));
  std::vector<CheckLine> lines;
  for (size_t i = 0; i < check.tensors.size(); ++i) {
    if (check.tensors[i].role == OpRole::kInput) continue;
    STRAKE_ASSIGN_OR_RETURN(const HostCopy actual, HostCopy::Of(checked.tensors[i]));
    lines.push_back(Compare(check, check.tensors[i], machine.dtype, actual, f64.tensors[i]));
  }
  return lines;
}

}  // namespace strake
