// What a graph's operations compute.
#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/dtype.h"
#include "core/testing/cudnn_contract/operation_graph.h"

namespace strake::testing {
namespace {

using Dims = std::vector<int64_t>;

// The elements of a tensor, row-major by its dims, whatever its strides.
using Values = std::vector<float>;

// Calls visit(position) for each element in row-major order, with the sum of its indices times
// `steps`.
template <typename Visit>
void ForEach(const Dims& dims, const Dims& steps, Visit visit) {
  Dims index(dims.size(), 0);
  int64_t position = 0;
  while (true) {
    visit(position);
    size_t d = dims.size();
    while (true) {
      if (d == 0) return;
      --d;
      position += steps[d];
      if (++index[d] < dims[d]) break;
      position -= steps[d] * dims[d];
      index[d] = 0;
    }
  }
}

// Steps through a packed tensor of dims `from` as one of dims `to`, which it broadcasts to.
Dims BroadcastSteps(const Dims& from, const Dims& to) {
  Dims steps = PackedStrides(from);
  for (size_t d = 0; d < to.size(); ++d) {
    if (from[d] != to[d]) steps[d] = 0;
  }
  return steps;
}

float Read(const void* data, cudnnDataType_t dtype, int64_t i) {
  switch (dtype) {
    case CUDNN_DATA_BFLOAT16:
      return static_cast<float>(static_cast<const Bf16*>(data)[i]);
    case CUDNN_DATA_INT32:
      return static_cast<float>(static_cast<const int32_t*>(data)[i]);
    default:
      return static_cast<const float*>(data)[i];
  }
}

Values Load(const void* data, cudnnDataType_t dtype, const Dims& dims, const Dims& strides) {
  Values values;
  ForEach(dims, strides, [&](int64_t at) { values.push_back(Read(data, dtype, at)); });
  return values;
}

void Store(const Values& values, const GraphTensor& tensor, void* data) {
  auto next = values.begin();
  ForEach(tensor.dims, tensor.strides, [&](int64_t at) {
    if (tensor.dtype == CUDNN_DATA_BFLOAT16) {
      static_cast<Bf16*>(data)[at] = Bf16(*next++);
    } else {
      static_cast<float*>(data)[at] = *next++;
    }
  });
}

void RoundTo(cudnnDataType_t dtype, Values* values) {
  if (dtype != CUDNN_DATA_BFLOAT16) return;
  for (float& value : *values) value = static_cast<float>(Bf16(value));
}

// c += a b for one matrix.
void MultiplyMatrix(const float* a, const float* b, int64_t m, int64_t n, int64_t k, float* c) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t l = 0; l < k; ++l) {
      const float factor = a[i * k + l];
      for (int64_t j = 0; j < n; ++j) c[i * n + j] += factor * b[l * n + j];
    }
  }
}

// Several matrices of c may share one of a or b: a group of query heads its key/value head.
Values Matmul(const GraphTensor& a, const Values& a_values, const GraphTensor& b,
              const Values& b_values, const GraphTensor& c) {
  const size_t rank = c.dims.size();
  const int64_t m = c.dims[rank - 2], n = c.dims[rank - 1], k = a.dims[rank - 1];
  const auto matrix_of = [&](const GraphTensor& x, int64_t matrix) {
    int64_t result = 0, scale = 1;
    for (size_t d = rank - 2; d-- > 0; matrix /= c.dims[d]) {
      result += matrix % c.dims[d] * x.dims[d] / c.dims[d] * scale;
      scale *= x.dims[d];
    }
    return result;
  };
  Values values(c.num_elements(), 0.0f);
  for (int64_t i = 0; i < c.num_elements() / (m * n); ++i) {
    MultiplyMatrix(&a_values[matrix_of(a, i) * m * k], &b_values[matrix_of(b, i) * k * n], m, n, k,
                   &values[i * m * n]);
  }
  return values;
}

float Pointwise(int mode, float x, float b, float t) {
  switch (mode) {
    case CUDNN_POINTWISE_EXP:
      return std::exp(x);
    case CUDNN_POINTWISE_LOG:
      return std::log(x);
    case CUDNN_POINTWISE_ADD:
      return x + b;
    case CUDNN_POINTWISE_SUB:
      return x - b;
    case CUDNN_POINTWISE_MUL:
      return x * b;
    case CUDNN_POINTWISE_DIV:
      return x / b;
    case CUDNN_POINTWISE_CMP_GE:
      return x >= b ? 1.0f : 0.0f;
    case CUDNN_POINTWISE_CMP_GT:
      return x > b ? 1.0f : 0.0f;
    case CUDNN_POINTWISE_BINARY_SELECT:
      return t != 0 ? x : b;
    default:  // CUDNN_POINTWISE_IDENTITY
      return x;
  }
}

// Each y sums, or is the maximum of, the elements of x that its block of x has.
Values Reduce(int mode, const GraphTensor& x, const Values& x_values, const GraphTensor& y) {
  const bool is_max = mode == CUDNN_REDUCE_TENSOR_MAX;
  Values values(y.num_elements(), is_max ? -HUGE_VALF : 0.0f);
  const Dims steps = PackedStrides(y.dims);
  auto next = x_values.begin();
  Dims index(x.dims.size(), 0);
  for (; next != x_values.end(); ++next) {
    int64_t at = 0;
    for (size_t d = 0; d < index.size(); ++d) at += index[d] * y.dims[d] / x.dims[d] * steps[d];
    values[at] = is_max ? std::max(values[at], *next) : values[at] + *next;
    for (size_t d = index.size(); d-- > 0 && ++index[d] == x.dims[d];) index[d] = 0;
  }
  return values;
}

class Interpreter {
 public:
  Interpreter(const std::map<int64_t, GraphTensor>& tensors,
              const std::map<int64_t, void*>& addresses, const std::map<int64_t, float>& scalars)
      : tensors_(tensors), addresses_(addresses), scalars_(scalars) {}

  void Run(const GraphOperation& operation) {
    const GraphTensor& output = tensors_.at(operation.output);
    Values values = Compute(operation, output);
    RoundTo(output.dtype, &values);
    if (!output.is_virtual) Store(values, output, addresses_.at(output.uid));
    values_[output.uid] = std::move(values);
  }

 private:
  const Values& Input(int64_t uid) {
    const auto found = values_.find(uid);
    if (found != values_.end()) return found->second;
    const GraphTensor& t = tensors_.at(uid);
    if (t.by_value) return values_[uid] = {scalars_.at(uid)};
    return values_[uid] = Load(addresses_.at(uid), t.dtype, t.dims, t.strides);
  }

  Values Compute(const GraphOperation& operation, const GraphTensor& output) {
    const GraphTensor& x = tensors_.at(operation.inputs[0]);
    switch (operation.type) {
      case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: {
        const GraphTensor& b = tensors_.at(operation.inputs[1]);
        return Matmul(x, Input(x.uid), b, Input(b.uid), output);
      }
      case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        return Reduce(operation.mode, x, Input(x.uid), output);
      case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
        return Reshape(x, output);
      default:
        return Map(operation, output);
    }
  }

  // The memory of x, seen with the dims and strides of y.
  Values Reshape(const GraphTensor& x, const GraphTensor& y) {
    if (x.is_virtual) return Load(Input(x.uid).data(), CUDNN_DATA_FLOAT, y.dims, y.strides);
    return Load(addresses_.at(x.uid), x.dtype, y.dims, y.strides);
  }

  Values Map(const GraphOperation& operation, const GraphTensor& y) {
    Values values(y.num_elements());
    if (operation.mode == CUDNN_POINTWISE_GEN_INDEX) {
      const int64_t step = PackedStrides(y.dims)[operation.axis], dim = y.dims[operation.axis];
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i / step % dim);
      return values;
    }
    std::vector<Values> inputs(3, Values(values.size(), 0.0f));
    for (size_t i = 0; i < operation.inputs.size(); ++i) {
      const Values& input = Input(operation.inputs[i]);
      auto next = inputs[i].begin();
      ForEach(y.dims, BroadcastSteps(tensors_.at(operation.inputs[i]).dims, y.dims),
              [&](int64_t at) { *next++ = input[at]; });
    }
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = Pointwise(operation.mode, inputs[0][i], inputs[1][i], inputs[2][i]);
    }
    return values;
  }

  const std::map<int64_t, GraphTensor>& tensors_;
  const std::map<int64_t, void*>& addresses_;
  const std::map<int64_t, float>& scalars_;
  std::map<int64_t, Values> values_;
};

}  // namespace

void OperationGraph::Run(const std::map<int64_t, void*>& addresses,
                         const std::map<int64_t, float>& scalars) const {
  Interpreter interpreter(tensors_, addresses, scalars);
  for (const GraphOperation& operation : operations_) interpreter.Run(operation);
}

}  // namespace strake::testing
