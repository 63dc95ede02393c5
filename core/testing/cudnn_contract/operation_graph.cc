#include "core/testing/cudnn_contract/operation_graph.h"

#include <algorithm>
#include <set>
#include <utility>

namespace strake::testing {
namespace {

void Require(bool holds, cudnnStatus_t status, const std::string& message) {
  if (!holds) throw CudnnError{status, message};
}

std::string Name(const GraphTensor& tensor) {
  std::string name = "tensor " + std::to_string(tensor.uid) + " [";
  for (const int64_t dim : tensor.dims) name.append(" ").append(std::to_string(dim));
  return name + " ]";
}

// Returns whether a tensor of the dims `from` serves as one of `to`: each equal, or 1.
bool Broadcasts(const std::vector<int64_t>& from, const std::vector<int64_t>& to) {
  for (size_t i = 0; i < to.size(); ++i) {
    if (from.size() != to.size() || (from[i] != to[i] && from[i] != 1)) return false;
  }
  return true;
}

// Returns whether each of the first `last` dims of `few` divides that of `many`.
bool Divides(const std::vector<int64_t>& few, const std::vector<int64_t>& many, size_t last) {
  for (size_t i = 0; i < last; ++i) {
    if (many[i] % few[i] != 0) return false;
  }
  return few.size() == many.size();
}

int NumPointwiseInputs(int mode) {
  switch (mode) {
    case CUDNN_POINTWISE_EXP:
    case CUDNN_POINTWISE_LOG:
    case CUDNN_POINTWISE_IDENTITY:
    case CUDNN_POINTWISE_GEN_INDEX:
      return 1;
    case CUDNN_POINTWISE_ADD:
    case CUDNN_POINTWISE_SUB:
    case CUDNN_POINTWISE_MUL:
    case CUDNN_POINTWISE_DIV:
    case CUDNN_POINTWISE_CMP_GE:
    case CUDNN_POINTWISE_CMP_GT:
    case CUDNN_POINTWISE_CMP_LT:
    case CUDNN_POINTWISE_LOGICAL_AND:
      return 2;
    case CUDNN_POINTWISE_BINARY_SELECT:
      return 3;
    default:
      throw CudnnError{CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN,
                       "pointwise mode " + std::to_string(mode) + " is not supported"};
  }
}

struct Ports {
  std::vector<cudnnBackendAttributeName_t> inputs;
  cudnnBackendAttributeName_t output;
};

Ports PortsOf(const Descriptor& descriptor) {
  switch (descriptor.type) {
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
      return {{CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_ATTR_OPERATION_MATMUL_BDESC},
              CUDNN_ATTR_OPERATION_MATMUL_CDESC};
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
      return {{CUDNN_ATTR_OPERATION_REDUCTION_XDESC}, CUDNN_ATTR_OPERATION_REDUCTION_YDESC};
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
      return {{CUDNN_ATTR_OPERATION_RESHAPE_XDESC}, CUDNN_ATTR_OPERATION_RESHAPE_YDESC};
    default:
      return {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
               CUDNN_ATTR_OPERATION_POINTWISE_TDESC},
              CUDNN_ATTR_OPERATION_POINTWISE_YDESC};
  }
}

void CheckMatmul(const GraphTensor& a, const GraphTensor& b, const GraphTensor& c) {
  const size_t rank = c.dims.size();
  const bool fits = a.dims.size() == rank && b.dims.size() == rank && rank >= 3 &&
                    a.dims[rank - 2] == c.dims[rank - 2] && b.dims[rank - 1] == c.dims[rank - 1] &&
                    a.dims[rank - 1] == b.dims[rank - 2] && Divides(a.dims, c.dims, rank - 2) &&
                    Divides(b.dims, c.dims, rank - 2);
  Require(fits, CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH,
          "a matmul of " + Name(a) + " and " + Name(b) + " does not give " + Name(c));
}

void ReadPointwise(const Descriptor& descriptor, GraphOperation* operation) {
  const Descriptor& pointwise = *descriptor.Refers(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
  operation->mode = pointwise.Get<int>(CUDNN_ATTR_POINTWISE_MODE);
  operation->axis = pointwise.Get<int64_t>(CUDNN_ATTR_POINTWISE_AXIS, -1);
  Require(operation->inputs.size() == NumPointwiseInputs(operation->mode), CUDNN_STATUS_BAD_PARAM,
          "pointwise mode " + std::to_string(operation->mode) + " has " +
              std::to_string(operation->inputs.size()) + " inputs");
  for (const auto alpha :
       {CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2}) {
    Require(descriptor.Get<float>(alpha, 1) == 1, CUDNN_STATUS_NOT_SUPPORTED,
            "a pointwise operation scales its input");
  }
}

void CheckPointwise(const GraphOperation& operation, const std::vector<GraphTensor>& inputs,
                    const GraphTensor& y) {
  for (const GraphTensor& x : inputs) {
    Require(Broadcasts(x.dims, y.dims), CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH,
            "a pointwise operation of " + Name(x) + " does not give " + Name(y));
  }
  const bool has_axis = operation.axis >= 0 && operation.axis < y.dims.size();
  Require(operation.mode != CUDNN_POINTWISE_GEN_INDEX || has_axis, CUDNN_STATUS_BAD_PARAM,
          "CUDNN_POINTWISE_GEN_INDEX needs an axis of " + Name(y));
}

// Counts the elements from the first to the last of a tensor, gaps included.
int64_t Extent(const GraphTensor& tensor) {
  int64_t extent = 1;
  for (size_t i = 0; i < tensor.dims.size(); ++i)
    extent += (tensor.dims[i] - 1) * tensor.strides[i];
  return extent;
}

int64_t OffsetsOf(const Descriptor& tensor) {
  constexpr auto kOffsets = CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC;
  return tensor.Has(kOffsets) ? tensor.Refers(kOffsets)->Get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID)
                              : kNoTensor;
}

// One integer for each of `count` entries of a batch.
void CheckIntegers(const GraphTensor& t, int64_t count) {
  Require(t.dims == std::vector<int64_t>{count, 1, 1, 1} && t.strides == PackedStrides(t.dims) &&
              !t.is_virtual && !t.by_value,
          CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH,
          Name(t) + " is not of " + std::to_string(count) + " integers");
  Require(t.dtype == CUDNN_DATA_INT32 || t.dtype == CUDNN_DATA_INT64,
          CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, Name(t) + " is neither i32 nor i64");
}

void CheckReshape(const GraphTensor& x, const GraphTensor& y) {
  Require(x.num_elements() == y.num_elements() && Extent(x) == Extent(y) &&
              (!x.is_virtual || x.strides == PackedStrides(x.dims)),
          CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH,
          "a reshape of " + Name(x) + " does not give " + Name(y));
}

void CheckShapes(const GraphOperation& operation, const std::vector<GraphTensor>& inputs,
                 const GraphTensor& output) {
  switch (operation.type) {
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
      return CheckMatmul(inputs[0], inputs[1], output);
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
      return CheckPointwise(operation, inputs, output);
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
      return Require(Divides(output.dims, inputs[0].dims, output.dims.size()),
                     CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH,
                     "a reduction of " + Name(inputs[0]) + " does not give " + Name(output));
    default:
      return CheckReshape(inputs[0], output);
  }
}

// Also adds that of its offsets.
GraphTensor AddTensor(const Descriptor& descriptor, std::map<int64_t, GraphTensor>* tensors) {
  const GraphTensor tensor = ReadTensor(descriptor);
  const auto [it, is_new] = tensors->emplace(tensor.uid, tensor);
  Require(is_new || it->second == tensor, CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES,
          "two tensors have the uid " + std::to_string(tensor.uid));
  if (!tensor.is_ragged()) return tensor;
  Require(tensor.dims.size() == 4, CUDNN_STATUS_NOT_SUPPORTED_SHAPE,
          Name(tensor) + " has offsets and not 4 dims");
  CheckIntegers(AddTensor(*descriptor.Refers(CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC), tensors),
                tensor.dims[0] + 1);
  return tensor;
}

void ReadLengths(const Descriptor& descriptor, int64_t batch, GraphOperation* operation,
                 std::map<int64_t, GraphTensor>* tensors) {
  constexpr cudnnBackendAttributeName_t kNames[] = {
      CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC,
      CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC,
      CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC};
  for (size_t i = 0; i < operation->lengths.size(); ++i) {
    if (!descriptor.Has(kNames[i])) continue;
    const GraphTensor lengths = AddTensor(*descriptor.Refers(kNames[i]), tensors);
    CheckIntegers(lengths, batch);
    operation->lengths[i] = lengths.uid;
  }
}

}  // namespace

int64_t GraphTensor::num_elements() const {
  int64_t product = 1;
  for (const int64_t dim : dims) product *= dim;
  return product;
}

std::vector<int64_t> PackedStrides(const std::vector<int64_t>& dims) {
  std::vector<int64_t> strides(dims.size(), 1);
  for (size_t d = dims.size() - 1; d > 0; --d) strides[d - 1] = strides[d] * dims[d];
  return strides;
}

GraphTensor ReadTensor(const Descriptor& d) {
  const GraphTensor tensor = {d.Get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID),
                              d.Get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE),
                              d.GetAll<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS),
                              d.GetAll<int64_t>(CUDNN_ATTR_TENSOR_STRIDES),
                              d.Get<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT),
                              d.Get<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL, false),
                              d.Get<bool>(CUDNN_ATTR_TENSOR_IS_BY_VALUE, false),
                              OffsetsOf(d)};
  const std::string name = Name(tensor);
  const auto positive = [](int64_t n) { return n > 0; };
  Require(tensor.dims.size() == tensor.strides.size() &&
              std::all_of(tensor.dims.begin(), tensor.dims.end(), positive) &&
              std::all_of(tensor.strides.begin(), tensor.strides.end(), positive),
          CUDNN_STATUS_BAD_PARAM, name + " needs a positive stride for each positive dim");
  Require(tensor.alignment >= 4 && (tensor.alignment & (tensor.alignment - 1)) == 0,
          CUDNN_STATUS_BAD_PARAM, name + " is aligned to " + std::to_string(tensor.alignment));
  Require(!tensor.by_value || (!tensor.is_virtual && tensor.num_elements() == 1),
          CUDNN_STATUS_BAD_PARAM, name + " is passed by value, and no number");
  return tensor;
}

GraphOperation ReadOperation(const Descriptor& descriptor,
                             std::map<int64_t, GraphTensor>* tensors) {
  GraphOperation operation = {descriptor.type, {}, 0};
  const Ports ports = PortsOf(descriptor);
  std::vector<GraphTensor> inputs;
  for (const auto port : ports.inputs) {
    if (!descriptor.Has(port)) continue;
    inputs.push_back(AddTensor(*descriptor.Refers(port), tensors));
    operation.inputs.push_back(inputs.back().uid);
  }
  const GraphTensor output = AddTensor(*descriptor.Refers(ports.output), tensors);
  operation.output = output.uid;
  if (descriptor.type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) {
    ReadLengths(descriptor, output.dims[0], &operation, tensors);
  }
  if (descriptor.type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) {
    ReadPointwise(descriptor, &operation);
  }
  if (descriptor.type == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR) {
    operation.mode = descriptor.Refers(CUDNN_ATTR_OPERATION_REDUCTION_DESC)
                         ->Get<int>(CUDNN_ATTR_REDUCTION_OPERATOR);
    Require(operation.mode == CUDNN_REDUCE_TENSOR_ADD || operation.mode == CUDNN_REDUCE_TENSOR_MAX,
            CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN,
            "reduction operator " + std::to_string(operation.mode) + " is not supported");
  }
  CheckShapes(operation, inputs, output);
  return operation;
}

OperationGraph::OperationGraph(const Descriptor& descriptor) {
  std::vector<GraphOperation> operations;
  for (const DescriptorPtr& operation :
       descriptor.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).descriptors) {
    operations.push_back(ReadOperation(*operation, &tensors_));
  }
  Order(std::move(operations));
}

void OperationGraph::Order(std::vector<GraphOperation> operations) {
  std::set<int64_t> waiting;
  for (const GraphOperation& operation : operations) {
    Require(waiting.insert(operation.output).second, CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES,
            "two operations write tensor " + std::to_string(operation.output));
  }
  for (const GraphOperation& operation : operations) {
    for (const int64_t uid : operation.inputs) {
      Require(!tensors_.at(uid).is_virtual || waiting.count(uid) > 0, CUDNN_STATUS_BAD_PARAM,
              "no operation writes the virtual tensor " + std::to_string(uid));
    }
  }
  while (!operations.empty()) {
    const auto ready =
        std::find_if(operations.begin(), operations.end(), [&](const GraphOperation& operation) {
          return std::none_of(operation.inputs.begin(), operation.inputs.end(),
                              [&](int64_t uid) { return waiting.count(uid) > 0; });
        });
    Require(ready != operations.end(), CUDNN_STATUS_BAD_PARAM, "the operations form a cycle");
    waiting.erase(ready->output);
    operations_.push_back(std::move(*ready));
    operations.erase(ready);
  }
}

}  // namespace strake::testing
