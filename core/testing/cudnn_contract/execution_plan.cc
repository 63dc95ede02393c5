#include "core/testing/cudnn_contract/execution_plan.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "core/testing/cudnn_contract/operation_graph.h"

namespace strake::testing {
namespace {

// What engines of cuDNN 9.19 for sm_90 ask for besides the sizes below.
constexpr int64_t kPlanBytes = 256;
constexpr int64_t kEntryBytes = 256;  // for each entry of a ragged batch, and not for fewer than 64
constexpr int64_t kForwardEngine = 2, kBackwardEngine = 6;

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

bool IsMatmul(const GraphOperation& operation) {
  return operation.type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR;
}

// Lengths and offsets, which the graph checks where they are used.
bool IsInteger(const GraphTensor& tensor) {
  return tensor.dtype == CUDNN_DATA_INT32 || tensor.dtype == CUDNN_DATA_INT64;
}

bool InMemory(const GraphTensor& tensor) { return !tensor.is_virtual && !tensor.by_value; }

void Support(bool holds, cudnnStatus_t status, int64_t uid, const char* message) {
  if (!holds) throw CudnnError{status, "tensor " + std::to_string(uid) + " " + message};
}

void CheckSupported(const GraphTensor& t) {
  Support(t.dims.size() == 4, CUDNN_STATUS_NOT_SUPPORTED_SHAPE, t.uid, "has not 4 dims");
  if (!InMemory(t) || IsInteger(t)) return;
  if (t.dims[3] == 1) {
    Support(t.dtype == CUDNN_DATA_FLOAT, CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, t.uid,
            "is a statistic of rows and not f32");
    return Support(t.strides == PackedStrides(t.dims), CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, t.uid,
                   "is a statistic of rows and has gaps");
  }
  Support(t.dtype == CUDNN_DATA_BFLOAT16 || t.dtype == CUDNN_DATA_FLOAT,
          CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, t.uid, "is neither bf16 nor f32");
  Support(t.alignment >= 16, CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, t.uid,
          "is not aligned to 16 bytes");
  Support(std::count(t.strides.begin() + 2, t.strides.end(), 1) == 1,
          CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, t.uid, "has no dim of stride 1");
  for (const int64_t stride : t.strides) {
    Support(stride == 1 || stride % 8 == 0, CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, t.uid,
            "has a stride that is no multiple of 16 bytes");
  }
}

// The fused kernels of attention multiply bf16 from memory.
void CheckSupported(const OperationGraph& graph) {
  const bool has_lengths = std::any_of(
      graph.operations().begin(), graph.operations().end(),
      [](const GraphOperation& operation) { return operation.lengths[0] != kNoTensor; });
  for (const auto& [uid, tensor] : graph.tensors()) {
    CheckSupported(tensor);
    Support(has_lengths || !tensor.is_ragged(), CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, uid,
            "has offsets, and no matmul has lengths");
  }
  for (const GraphOperation& operation : graph.operations()) {
    if (!IsMatmul(operation)) continue;
    for (const int64_t uid : operation.inputs) {
      const GraphTensor& t = graph.tensors().at(uid);
      Support(!InMemory(t) || t.dtype == CUDNN_DATA_BFLOAT16, CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE,
              uid, "is multiplied and not bf16");
    }
  }
}

// A matmul that writes f32 to memory adds to it from many blocks, in no order. cuDNN's engines do
// not note that; here they do, so that a test sees it.
bool AddsInMemory(const OperationGraph& graph) {
  return std::any_of(graph.operations().begin(), graph.operations().end(),
                     [&](const GraphOperation& operation) {
                       const GraphTensor& t = graph.tensors().at(operation.output);
                       return IsMatmul(operation) && InMemory(t) && t.dtype == CUDNN_DATA_FLOAT;
                     });
}

bool IsBackward(const OperationGraph& graph) {
  return std::any_of(graph.operations().begin(), graph.operations().end(),
                     [](const GraphOperation& operation) {
                       return operation.type == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR;
                     });
}

// Those of a batch with lengths; 0 where there are none.
int64_t RaggedEntries(const OperationGraph& graph) {
  for (const auto& [uid, tensor] : graph.tensors()) {
    if (tensor.is_ragged()) return tensor.dims[0];
  }
  return 0;
}

// Holds, in the backward pass, the gradients of scores where nothing is added in memory, and those
// of keys and values of each query head where heads are grouped.
int64_t WorkspaceBytes(const OperationGraph& graph) {
  int64_t scores = 0, groups = 0;
  for (const GraphOperation& operation : graph.operations()) {
    const GraphTensor& y = graph.tensors().at(operation.output);
    if (IsMatmul(operation) && y.is_virtual) {
      scores = std::max(
          scores, 2 * y.dims[0] * y.dims[1] * RoundUp(y.dims[2], 64) * RoundUp(y.dims[3], 128));
    }
    if (operation.type != CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR) continue;
    const GraphTensor& x = graph.tensors().at(operation.inputs[0]);
    if (x.dims[1] != y.dims[1]) groups += 2 * x.num_elements();
  }
  const int64_t ragged = RaggedEntries(graph);
  const int64_t plan = kPlanBytes + (ragged == 0 ? 0 : kEntryBytes * std::max<int64_t>(ragged, 64));
  if (!IsBackward(graph)) return plan;
  return plan + groups + (AddsInMemory(graph) ? 0 : scores);
}

DescriptorPtr NewEngine(const CudnnOptions& options, const DescriptorPtr& graph_descriptor,
                        const OperationGraph& graph) {
  DescriptorPtr engine = NewDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  SetResult(engine.get(), CUDNN_ATTR_ENGINE_OPERATION_GRAPH, {graph_descriptor});
  SetResult<int64_t>(engine.get(), CUDNN_ATTR_ENGINE_GLOBAL_INDEX,
                     {IsBackward(graph) ? kBackwardEngine : kForwardEngine});
  std::vector<cudnnBackendNumericalNote_t> notes = {CUDNN_NUMERICAL_NOTE_TENSOR_CORE};
  if (options.not_deterministic || AddsInMemory(graph)) {
    notes.push_back(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
  }
  SetResult(engine.get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, notes);
  SetResult<cudnnBackendBehaviorNote_t>(engine.get(), CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                        {CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION});
  engine->finalized = true;
  return engine;
}

DescriptorPtr NewConfig(const CudnnOptions& options, const DescriptorPtr& descriptor) {
  const OperationGraph graph(*descriptor);
  CheckSupported(graph);
  if (options.no_engine) {
    throw CudnnError{CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "told to have no engine"};
  }
  DescriptorPtr config = NewDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  SetResult(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE, {NewEngine(options, descriptor, graph)});
  SetResult<int64_t>(config.get(), CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE,
                     {WorkspaceBytes(graph) + options.more_workspace});
  SetResult<int32_t>(config.get(), CUDNN_ATTR_ENGINECFG_SHARED_MEMORY_USED, {0});
  config->finalized = true;
  return config;
}

// A heuristic without an engine for the graph succeeds, as cuDNN's does, and has no results.
void FinalizeHeuristic(const CudnnOptions& options, Descriptor* heuristic) {
  std::vector<DescriptorPtr> results;
  try {
    results.push_back(NewConfig(options, heuristic->Refers(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)));
  } catch (const CudnnError& error) {
    heuristic->remark = error.message;
  }
  SetResult(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, std::move(results));
}

void FinalizePlan(const CudnnOptions& options, Descriptor* plan) {
  if (options.does_not_compile) {
    throw CudnnError{CUDNN_STATUS_INTERNAL_ERROR_COMPILATION_FAILED, "told not to compile"};
  }
  const std::string refused = options.load ? options.load() : "";
  if (!refused.empty()) throw CudnnError{CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER, refused};
  SetResult(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
            plan->Refers(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)
                ->GetAll<int64_t>(CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE));
}

void FinalizeVariantPack(const Descriptor& pack) {
  const auto uids = pack.GetAll<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto addresses = pack.GetAll<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  if (std::set<int64_t>(uids.begin(), uids.end()).size() != uids.size()) {
    throw CudnnError{CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "a uid has two addresses"};
  }
  if (uids.size() != addresses.size()) {
    throw CudnnError{CUDNN_STATUS_BAD_PARAM, std::to_string(uids.size()) + " uids have " +
                                                 std::to_string(addresses.size()) + " addresses"};
  }
}

// The addresses of the tensors in memory, and the numbers that are passed by value.
struct Operands {
  std::map<int64_t, void*> addresses;
  std::map<int64_t, float> scalars;
};

void AddOperand(const GraphTensor& tensor, void* address, Operands* operands) {
  if (address == nullptr) {
    throw CudnnError{CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
                     "tensor " + std::to_string(tensor.uid) + " has no address"};
  }
  if (tensor.by_value) {
    operands->scalars[tensor.uid] = tensor.dtype == CUDNN_DATA_INT32
                                        ? static_cast<float>(*static_cast<int32_t*>(address))
                                        : *static_cast<float*>(address);
    return;
  }
  if (reinterpret_cast<uintptr_t>(address) % tensor.alignment != 0) {
    throw CudnnError{CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER,
                     "tensor " + std::to_string(tensor.uid) + " is not aligned to " +
                         std::to_string(tensor.alignment) + " bytes"};
  }
  operands->addresses[tensor.uid] = address;
}

Operands ReadOperands(const OperationGraph& graph, const Descriptor& pack) {
  const auto uids = pack.GetAll<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto addresses = pack.GetAll<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  std::map<int64_t, void*> given;
  for (size_t i = 0; i < uids.size(); ++i) {
    const auto found = graph.tensors().find(uids[i]);
    if (found == graph.tensors().end() || found->second.is_virtual) {
      throw CudnnError{CUDNN_STATUS_BAD_PARAM,
                       "the graph has no tensor " + std::to_string(uids[i]) + " in memory"};
    }
    given[uids[i]] = addresses[i];
  }
  Operands operands;
  for (const auto& [uid, tensor] : graph.tensors()) {
    if (!tensor.is_virtual) AddOperand(tensor, given[uid], &operands);
  }
  return operands;
}

}  // namespace

void Finalize(const CudnnOptions& options, Descriptor* descriptor) {
  if (descriptor->finalized) throw CudnnError{CUDNN_STATUS_BAD_PARAM, "finalized twice"};
  CheckComplete(*descriptor);
  std::map<int64_t, GraphTensor> tensors;
  switch (descriptor->type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
      (void)ReadTensor(*descriptor);
      break;
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
      (void)ReadOperation(*descriptor, &tensors);
      break;
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      (void)OperationGraph(*descriptor);
      break;
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
      FinalizeHeuristic(options, descriptor);
      break;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
      FinalizePlan(options, descriptor);
      break;
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
      FinalizeVariantPack(*descriptor);
      break;
    default:
      break;
  }
  descriptor->finalized = true;
}

void Execute(const CudnnOptions& options, CudaStream stream, const Descriptor& plan,
             const Descriptor& variant_pack) {
  if (plan.type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ||
      variant_pack.type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR) {
    throw CudnnError{CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "takes a plan and a variant pack"};
  }
  if (!plan.finalized || !variant_pack.finalized) {
    throw CudnnError{CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
                     "the plan or the variant pack is not finalized"};
  }
  if (options.does_not_execute) {
    throw CudnnError{CUDNN_STATUS_EXECUTION_FAILED, "told not to execute"};
  }
  const auto graph =
      std::make_shared<OperationGraph>(*plan.Refers(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)
                                            ->Refers(CUDNN_ATTR_ENGINECFG_ENGINE)
                                            ->Refers(CUDNN_ATTR_ENGINE_OPERATION_GRAPH));
  const auto bytes = plan.Get<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
  void* const workspace = variant_pack.Get<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  if (bytes > 0 && workspace == nullptr) {
    throw CudnnError{CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the plan needs a workspace"};
  }
  const auto work = [graph, bytes, workspace, operands = ReadOperands(*graph, variant_pack),
                     fault = options.fault_on_the_device] {
    // Shows a workspace that is too small, or that is something else's as well: these are NaN.
    std::memset(workspace, 0xff, bytes);
    const std::string wrong = graph->Run(operands.addresses, operands.scalars);
    std::memset(workspace, 0xff, bytes);
    return wrong.empty() ? fault : wrong;
  };
  const std::string refused =
      options.enqueue ? options.enqueue(stream, work) : "there is no GPU to enqueue on";
  if (!refused.empty()) throw CudnnError{CUDNN_STATUS_EXECUTION_FAILED_CUDART, refused};
}

}  // namespace strake::testing
