#include "tools/benchmarking/benchmark_ops.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/cuda/cuda_runtime.h"
#include "core/device/context.h"
#include "core/device/cuda_context.h"
#include "core/device/op_call.h"
#include "core/memory/activation_arena.h"
#include "core/memory/device_memory.h"
#include "core/ops/attention/attention_call.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/check/check_cases.h"
#include "core/ops/check/op_check.h"
#include "core/ops/philox/philox_cuda.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"
#include "tools/benchmarking/op_times_table.h"
#include "tools/cli/machine.h"
#include "tools/cli/terminal_lines.h"
#include "train/engine/step_record.h"
#include "train/plan/call_times.h"
#include "train/plan/gpu_rates.h"
#include "train/plan/gpu_timing.h"

namespace strake {
namespace {

bool Is(const OpCall& call, const char* op) { return std::strcmp(call.op, op) == 0; }

bool IsMeasured(const OpCall& call, const std::string& measure) {
  if (call.is_collective()) return false;
  if (measure == "products") return Is(call, "matmul");
  if (measure == "attention") return Is(call, "causal_attention");
  return true;
}

// The different calls, in the order of the step; `times` counts all that are equal.
std::vector<OpCall> DifferentCalls(const std::vector<OpCall>& calls, const std::string& measure) {
  std::vector<OpCall> different;
  std::map<std::string, size_t> index;  // keyed by ToString()
  for (const OpCall& call : calls) {
    if (!IsMeasured(call, measure)) continue;
    const auto [found, is_new] = index.emplace(call.ToString(), different.size());
    if (is_new) {
      different.push_back(call);
    } else {
      different[found->second].times += call.times;
    }
  }
  return different;
}

// "input gradient", "layer_norm backward".
std::string KindOf(const OpCall& call) {
  if (!Is(call, "matmul")) {
    return absl::StrCat(call.op, call.Has("dy") ? " backward" : "");
  }
  if (call.Get("transpose_a") != 0) return "weight gradient";
  return call.pass == Pass::kForward ? "product" : "input gradient";
}

// "65536 x 3072 x 768 with bias, gelu_input": M x N x K; of other ops, the largest operand.
std::string ShapesOf(const OpCall& call) {
  if (!Is(call, "matmul")) {
    const auto larger = [](const OpOperand& a, const OpOperand& b) {
      return NumElements(a.shape) < NumElements(b.shape);
    };
    const auto largest = std::max_element(call.operands.begin(), call.operands.end(), larger);
    return absl::StrJoin(largest->shape, " x ");
  }
  const Shape& c = call.ShapeOf("c");
  const auto depth = static_cast<int64_t>(call.cost.flops / 2 / c[0] / c[1]);
  std::vector<std::string> with;
  for (const OpOperand& operand : call.operands) {
    const std::string name = operand.name;
    if (name != "a" && name != "b" && name != "c") with.push_back(name);
  }
  if (call.Find("c")->role == OpRole::kInOut) with.push_back("+=");
  return absl::StrCat(c[0], " x ", c[1], " x ", depth, with.empty() ? "" : " with ",
                      absl::StrJoin(with, ", "));
}

template <typename T>
absl::Status FillUniform(const Philox& random, CudaStream stream, const Tensor& x) {
  return cuda::PhiloxUniform<T>(
      stream, {.random = random, .first = 0, .size = x.num_elements(), .x = x.data<T>()});
}

// Fills with random numbers, since power, and with it the clock, depends on how random the bits
// are; doubles (angles, the factor of clipping) with 1, and i64 sums with 0.
absl::Status FillTensor(const OpTensor& tensor, uint64_t seed, CudaStream stream, const Tensor& x) {
  const Philox random(seed, RandomUse::kTesting);
  if (x.dtype() == DType::kF32) return FillUniform<float>(random, stream, x);
  if (x.dtype() == DType::kBf16) return FillUniform<Bf16>(random, stream, x);
  const TensorBuffer host(x.dtype(), x.shape());
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    if (x.dtype() == DType::kF64) {
      host.tensor().data<double>()[i] = 1;
    } else if (x.dtype() == DType::kI64) {
      host.tensor().data<int64_t>()[i] = 0;
    } else if (!tensor.ids.empty()) {
      host.tensor().data<int32_t>()[i] = tensor.ids[i];
    } else {
      host.tensor().data<int32_t>()[i] = static_cast<int32_t>(random.Bits(i) % tensor.num_tokens);
    }
  }
  return CopyBlocking(host, x);
}

// The tensors of one op.
class Operands {
 public:
  absl::Status Allocate(const OpCheck& check, const Context& dry_run) {
    Tensors planned;
    for (const OpTensor& tensor : check.tensors) {
      planned.emplace_back(nullptr, tensor.dtype, tensor.shape, Device::kCuda);
      STRAKE_ASSIGN_OR_RETURN(DeviceBuffer buffer,
                              DeviceBuffer::Create(Device::kCuda, tensor.dtype, tensor.shape));
      tensors_.push_back(buffer.tensor());
      memory_.push_back(std::move(buffer));
    }
    const ActivationScope scope(dry_run.arena());
    return check.run(dry_run, planned);
  }

  absl::Status Fill(const OpCheck& check, CudaStream stream) const {
    for (size_t i = 0; i < tensors_.size(); ++i) {
      STRAKE_RETURN_IF_ERROR(FillTensor(check.tensors[i], /*seed=*/i + 1, stream, tensors_[i]));
    }
    return absl::OkStatus();
  }

  const Tensors& tensors() const { return tensors_; }

 private:
  std::vector<DeviceBuffer> memory_;
  Tensors tensors_;
};

// Where the ops run.
struct Rank {
  Context MakeContext(ActivationArena* arena) {
    Context ctx(&team, arena);
    ctx.set_cuda(cuda.get());
    ctx.set_deterministic(deterministic);
    return ctx;
  }

  bool deterministic;
  ThreadTeam team{1};
  std::unique_ptr<CudaContext> cuda = {};
};

// Seconds of one call.
absl::StatusOr<double> Measure(const OpCall& call, Rank* rank) {
  const OpCheck check = CheckCaseOf(call);
  ActivationArena plan = ActivationArena::DryRun(Device::kCuda);
  Operands operands;
  STRAKE_RETURN_IF_ERROR(operands.Allocate(check, rank->MakeContext(&plan)));
  STRAKE_ASSIGN_OR_RETURN(ActivationArena arena,
                          ActivationArena::Create(plan.peak_bytes(), Device::kCuda));
  const Context ctx = rank->MakeContext(&arena);
  STRAKE_RETURN_IF_ERROR(operands.Fill(check, ctx.cuda_stream()));
  return BestSeconds(ctx.cuda_stream(), [&] { return check.run(ctx, operands.tensors()); });
}

absl::Status CheckUsesCudnn(const OpCall& call, Rank* rank) {
  ActivationArena none = ActivationArena::DryRun(Device::kCuda);
  const absl::Status status =
      CausalAttentionHasCudnn(rank->MakeContext(&none), GetAttentionShape(call),
                              /*with_documents=*/call.Has("positions"));
  if (status.ok()) return status;
  return absl::FailedPreconditionError(
      absl::StrCat("attention runs on Strake's own kernels, and not on cuDNN's: ",
                   std::string(status.message())));
}

// Of one call; zeros where there are no rates for this GPU or this op.
Forecast ForecastOf(const OpCall& call, const absl::StatusOr<GpuRates>& rates,
                    const StepRemedies& remedies) {
  Forecast seconds;
  if (!rates.ok()) return seconds;
  const auto rows = ForecastCall(call, *rates, remedies);
  if (!rows.ok()) return seconds;
  for (const CallTimeRow& row : *rows) seconds += row.seconds;
  return seconds;
}

// Prints on stdout, while the bar, on stderr, may be on the same terminal.
void PrintLines(const std::string& text, Progress* screen) {
  screen->WithoutBar([&] { std::cout << text << std::flush; });
}

void PrintHead(const absl::Status& has_rates, Progress* screen) {
  const int columns = screen->line_columns();
  std::string head;
  if (!has_rates.ok()) {
    head = WrapLines(absl::StrCat("no forecast: ", has_rates.message(), "\n"), columns);
  }
  PrintLines(head + OpTimesHeading(columns), screen);
}

}  // namespace

absl::Status BenchmarkOps(const BenchmarkConfig& config, const ModelConfig& model,
                          Progress* screen) {
  const int device = CudaDeviceOf(config.layout);
  STRAKE_ASSIGN_OR_RETURN(const CudaDevice gpu, DescribeCudaDevice(device));
  const EngineOptions options = config.RankOptions(model);
  Rank rank = {.deterministic = options.deterministic};
  STRAKE_ASSIGN_OR_RETURN(rank.cuda, CudaContext::Create(device, options.product_tunings));
  const absl::StatusOr<GpuRates> rates = GpuRates::OfGpu(gpu.name);
  const StepRemedies remedies = {.atomic_attention = !options.deterministic};
  const StepRecord record =
      RecordStep(options, config.layout.sizes(), /*rank=*/0, config.num_micro_batches());
  PrintHead(rates.status(), screen);
  OpTimes sum = {.layer = "sum", .op = config.measure};
  const std::vector<OpCall> calls = DifferentCalls(record.calls, config.measure);
  double num_done = 0;
  for (const OpCall& call : calls) {
    screen->Work({.what = "timing ops",
                  .done = num_done++,
                  .total = static_cast<double>(calls.size()),
                  .unit = WorkUnit::kCount});
    if (config.measure == "attention") STRAKE_RETURN_IF_ERROR(CheckUsesCudnn(call, &rank));
    STRAKE_ASSIGN_OR_RETURN(const double seconds, Measure(call, &rank));
    const OpTimes op = {.layer = call.layer,
                        .op = KindOf(call),
                        .shapes = ShapesOf(call),
                        .times = call.times,
                        .seconds = seconds,
                        .cost = call.cost,
                        .forecast = ForecastOf(call, rates, remedies)};
    PrintLines(OpTimesRow(op, screen->line_columns()), screen);
    const auto times = static_cast<double>(call.times);
    sum.seconds += times * seconds;
    sum.forecast += times * op.forecast;
    sum.cost.flops += times * call.cost.flops;
    sum.cost.bytes += times * call.cost.bytes;
    sum.times += call.times;
  }
  screen->EndWork();
  PrintLines(OpTimesRow(sum, screen->line_columns()), screen);
  return absl::OkStatus();
}

}  // namespace strake
