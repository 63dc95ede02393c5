#include "core/testing/cudnn_contract/descriptor.h"

#include <algorithm>
#include <utility>

namespace strake::testing {
namespace {

enum class Use { kRequired, kOptional, kResult };

struct Rule {
  cudnnBackendDescriptorType_t descriptor;
  cudnnBackendAttributeName_t name;
  cudnnBackendAttributeType_t type;
  Use use;
  int64_t min_count, max_count;
  cudnnBackendDescriptorType_t refers_to;  // for CUDNN_TYPE_BACKEND_DESCRIPTOR
};

constexpr int64_t kAny = int64_t{1} << 30;
constexpr cudnnBackendDescriptorType_t kAnyOperation =
    static_cast<cudnnBackendDescriptorType_t>(-1);

Rule Value(cudnnBackendDescriptorType_t descriptor, cudnnBackendAttributeName_t name,
           cudnnBackendAttributeType_t type, Use use, int64_t max_count = 1) {
  return {descriptor, name, type, use, 1, max_count, kAnyOperation};
}

Rule Reference(cudnnBackendDescriptorType_t descriptor, cudnnBackendAttributeName_t name, Use use,
               cudnnBackendDescriptorType_t refers_to, int64_t max_count = 1) {
  return {descriptor, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, use, 1, max_count, refers_to};
}

// What cuDNN 9.19 takes of each descriptor, as far as its frontend asks for it to build and run
// attention. Knobs are in no rule: an engine of the stand-in has none.
const std::vector<Rule>& Rules() {
  using enum Use;
  constexpr auto kTensor = CUDNN_BACKEND_TENSOR_DESCRIPTOR;
  constexpr auto kMatmul = CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR;
  constexpr auto kPointwise = CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR;
  constexpr auto kReduction = CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR;
  constexpr auto kReshape = CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR;
  constexpr auto kEngine = CUDNN_BACKEND_ENGINE_DESCRIPTOR;
  constexpr auto kConfig = CUDNN_BACKEND_ENGINECFG_DESCRIPTOR;
  constexpr auto kPlan = CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR;
  constexpr auto kPack = CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR;
  static const auto* const rules = new std::vector<Rule>{
      Value(kTensor, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, kRequired),
      Value(kTensor, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, kRequired, CUDNN_DIM_MAX),
      Value(kTensor, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, kRequired, CUDNN_DIM_MAX),
      Value(kTensor, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, kRequired),
      Value(kTensor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, kRequired),
      Value(kTensor, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, kOptional),
      Value(kTensor, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, kOptional),
      Reference(kTensor, CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC, kOptional, kTensor),
      Value(CUDNN_BACKEND_MATMUL_DESCRIPTOR, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE,
            kRequired),
      Reference(kMatmul, CUDNN_ATTR_OPERATION_MATMUL_ADESC, kRequired, kTensor),
      Reference(kMatmul, CUDNN_ATTR_OPERATION_MATMUL_BDESC, kRequired, kTensor),
      Reference(kMatmul, CUDNN_ATTR_OPERATION_MATMUL_CDESC, kRequired, kTensor),
      Reference(kMatmul, CUDNN_ATTR_OPERATION_MATMUL_DESC, kRequired,
                CUDNN_BACKEND_MATMUL_DESCRIPTOR),
      Reference(kMatmul, CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, kOptional, kTensor),
      Reference(kMatmul, CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, kOptional, kTensor),
      Reference(kMatmul, CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, kOptional, kTensor),
      Value(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MODE,
            CUDNN_TYPE_POINTWISE_MODE, kRequired),
      Value(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MATH_PREC,
            CUDNN_TYPE_DATA_TYPE, kRequired),
      Value(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64,
            kOptional),
      Reference(kPointwise, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kRequired,
                CUDNN_BACKEND_POINTWISE_DESCRIPTOR),
      Reference(kPointwise, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, kRequired, kTensor),
      Reference(kPointwise, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, kOptional, kTensor),
      Reference(kPointwise, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, kOptional, kTensor),
      Reference(kPointwise, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, kRequired, kTensor),
      Value(kPointwise, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, CUDNN_TYPE_FLOAT, kOptional),
      Value(kPointwise, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, CUDNN_TYPE_FLOAT, kOptional),
      Value(CUDNN_BACKEND_REDUCTION_DESCRIPTOR, CUDNN_ATTR_REDUCTION_COMP_TYPE,
            CUDNN_TYPE_DATA_TYPE, kRequired),
      Value(CUDNN_BACKEND_REDUCTION_DESCRIPTOR, CUDNN_ATTR_REDUCTION_OPERATOR,
            CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, kRequired),
      Value(CUDNN_BACKEND_REDUCTION_DESCRIPTOR, CUDNN_ATTR_REDUCTION_IS_DETERMINISTIC,
            CUDNN_TYPE_BOOLEAN, kOptional),
      Reference(kReduction, CUDNN_ATTR_OPERATION_REDUCTION_DESC, kRequired,
                CUDNN_BACKEND_REDUCTION_DESCRIPTOR),
      Reference(kReduction, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, kRequired, kTensor),
      Reference(kReduction, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, kRequired, kTensor),
      Reference(kReshape, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, kRequired, kTensor),
      Reference(kReshape, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, kRequired, kTensor),
      Value(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_HANDLE,
            CUDNN_TYPE_HANDLE, kRequired),
      Reference(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_OPS, kRequired,
                kAnyOperation, kAny),
      Reference(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH,
                kRequired, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR),
      Value(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE,
            kRequired),
      Reference(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_RESULTS, kResult,
                kConfig, kAny),
      Reference(kConfig, CUDNN_ATTR_ENGINECFG_ENGINE, kRequired, kEngine),
      Reference(kConfig, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, kResult,
                CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, kAny),
      Value(kConfig, CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE, CUDNN_TYPE_INT64, kResult),
      Value(kConfig, CUDNN_ATTR_ENGINECFG_SHARED_MEMORY_USED, CUDNN_TYPE_INT32, kResult),
      Reference(kEngine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, kRequired,
                CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR),
      Value(kEngine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, kRequired),
      Value(kEngine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, kResult, kAny),
      Value(kEngine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, kResult, kAny),
      Reference(kPlan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, kRequired, kConfig),
      Value(kPlan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, kResult),
      Value(kPack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, kRequired, kAny),
      Value(kPack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, kRequired, kAny),
      Value(kPack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, kRequired),
  };
  return *rules;
}

std::string Name(const Descriptor& descriptor, cudnnBackendAttributeName_t name) {
  return "attribute " + std::to_string(name) + " of a descriptor of type " +
         std::to_string(descriptor.type);
}

const Rule& Find(const Descriptor& descriptor, cudnnBackendAttributeName_t name,
                 cudnnBackendAttributeType_t type) {
  for (const Rule& rule : Rules()) {
    if (rule.descriptor != descriptor.type || rule.name != name) continue;
    if (rule.type == type) return rule;
    throw CudnnError{CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE,
                     Name(descriptor, name) + " has the attribute type " +
                         std::to_string(rule.type) + ", not " + std::to_string(type)};
  }
  throw CudnnError{CUDNN_STATUS_BAD_PARAM, "there is no " + Name(descriptor, name)};
}

size_t ElementBytes(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_BOOLEAN:
      return sizeof(bool);
    case CUDNN_TYPE_INT64:
      return sizeof(int64_t);
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE:
      return sizeof(void*);
    default:
      return sizeof(int);  // f32, i32, and every enumeration
  }
}

bool IsOperation(cudnnBackendDescriptorType_t type) {
  return type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR ||
         type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR ||
         type == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR ||
         type == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR;
}

DescriptorPtr Referred(const Rule& rule, const std::string& name, const void* handle) {
  if (handle == nullptr) {
    throw CudnnError{CUDNN_STATUS_BAD_PARAM_NULL_POINTER, name + " refers to nothing"};
  }
  const DescriptorPtr& referred = static_cast<const DescriptorHandle*>(handle)->descriptor;
  const bool fits = rule.refers_to == kAnyOperation ? IsOperation(referred->type)
                                                    : referred->type == rule.refers_to;
  if (!fits) {
    throw CudnnError{CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE,
                     name + " refers to a descriptor of type " + std::to_string(referred->type)};
  }
  if (!referred->finalized) {
    throw CudnnError{CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
                     name + " refers to a descriptor that is not finalized"};
  }
  return referred;
}

}  // namespace

DescriptorPtr NewDescriptor(cudnnBackendDescriptorType_t type) {
  auto descriptor = std::make_shared<Descriptor>();
  descriptor->type = type;
  return descriptor;
}

void SetResult(Descriptor* descriptor, cudnnBackendAttributeName_t name,
               std::vector<DescriptorPtr> values) {
  const int64_t count = static_cast<int64_t>(values.size());
  descriptor->attributes[name] = {count, {}, std::move(values)};
}

void SetAttribute(Descriptor* descriptor, cudnnBackendAttributeName_t name,
                  cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  const Rule& rule = Find(*descriptor, name, type);
  const std::string what = Name(*descriptor, name);
  if (rule.use == Use::kResult) throw CudnnError{CUDNN_STATUS_BAD_PARAM, what + " is read only"};
  if (descriptor->finalized) {
    throw CudnnError{CUDNN_STATUS_BAD_PARAM, what + " is set after the descriptor is finalized"};
  }
  if (values == nullptr) throw CudnnError{CUDNN_STATUS_BAD_PARAM_NULL_POINTER, what + " is null"};
  if (count < rule.min_count || count > rule.max_count) {
    throw CudnnError{CUDNN_STATUS_BAD_PARAM,
                     what + " has " + std::to_string(count) + " elements, and takes " +
                         std::to_string(rule.min_count) + " to " + std::to_string(rule.max_count)};
  }
  Attribute attribute = {count, {}, {}};
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    const auto* const handles = static_cast<const cudnnBackendDescriptor_t*>(values);
    for (int64_t i = 0; i < count; ++i) {
      attribute.descriptors.push_back(Referred(rule, what, handles[i]));
    }
  } else {
    const char* const begin = static_cast<const char*>(values);
    attribute.bytes.assign(begin, begin + count * ElementBytes(type));
  }
  descriptor->attributes[name] = std::move(attribute);
}

void GetAttribute(const Descriptor& descriptor, cudnnBackendAttributeName_t name,
                  cudnnBackendAttributeType_t type, int64_t requested, int64_t* count,
                  void* values) {
  (void)Find(descriptor, name, type);
  if (!descriptor.finalized) {
    throw CudnnError{CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
                     Name(descriptor, name) + " is read before the descriptor is finalized"};
  }
  static const Attribute none;
  const auto found = descriptor.attributes.find(name);
  const Attribute& attribute = found == descriptor.attributes.end() ? none : found->second;
  if (count != nullptr) *count = attribute.count;
  if (values == nullptr) return;
  const int64_t copied = std::min(requested, attribute.count);
  if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    std::memcpy(values, attribute.bytes.data(), copied * ElementBytes(type));
    return;
  }
  // The caller made the descriptors.
  for (int64_t i = 0; i < copied; ++i) {
    const cudnnBackendDescriptor_t to = static_cast<cudnnBackendDescriptor_t*>(values)[i];
    DescriptorPtr& into = static_cast<DescriptorHandle*>(to)->descriptor;
    if (into->type != attribute.descriptors[i]->type) {
      throw CudnnError{CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE,
                       Name(descriptor, name) + " is read into a descriptor of type " +
                           std::to_string(into->type)};
    }
    into = attribute.descriptors[i];
  }
}

void CheckComplete(const Descriptor& descriptor) {
  for (const Rule& rule : Rules()) {
    if (rule.descriptor == descriptor.type && rule.use == Use::kRequired &&
        !descriptor.Has(rule.name)) {
      throw CudnnError{CUDNN_STATUS_BAD_PARAM, Name(descriptor, rule.name) + " is not set"};
    }
  }
}

}  // namespace strake::testing
