// What a graph's operations compute.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
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

int64_t ReadInteger(const void* data, cudnnDataType_t dtype, int64_t i) {
  return dtype == CUDNN_DATA_INT64 ? static_cast<const int64_t*>(data)[i]
                                   : static_cast<const int32_t*>(data)[i];
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

void StoreOne(float value, cudnnDataType_t dtype, void* data, int64_t i) {
  if (dtype == CUDNN_DATA_BFLOAT16) {
    static_cast<Bf16*>(data)[i] = Bf16(value);
  } else {
    static_cast<float*>(data)[i] = value;
  }
}

void Store(const Values& values, const GraphTensor& tensor, void* data) {
  auto next = values.begin();
  ForEach(tensor.dims, tensor.strides,
          [&](int64_t at) { StoreOne(*next++, tensor.dtype, data, at); });
}

// Calls visit(place) for each element of a ragged tensor in row-major order of its dims; the place
// of rows after the length of their entry is -1.
template <typename Visit>
void ForEachRagged(const Dims& dims, const Dims& strides, int64_t ragged_dim, const Dims& offsets,
                   const Dims& lengths, Visit visit) {
  std::array<int64_t, 4> i;
  for (i[0] = 0; i[0] < dims[0]; ++i[0]) {
    for (i[1] = 0; i[1] < dims[1]; ++i[1]) {
      for (i[2] = 0; i[2] < dims[2]; ++i[2]) {
        for (i[3] = 0; i[3] < dims[3]; ++i[3]) {
          const int64_t at =
              offsets[i[0]] + i[1] * strides[1] + i[2] * strides[2] + i[3] * strides[3];
          visit(i[ragged_dim] < lengths[i[0]] ? at : -1);
        }
      }
    }
  }
}

void RoundTo(cudnnDataType_t dtype, Values* values) {
  if (dtype != CUDNN_DATA_BFLOAT16) return;
  for (float& value : *values) value = static_cast<float>(Bf16(value));
}

struct Sizes {
  int64_t m, n, k;
};

// c += a b for one matrix of the sizes `in`, whose elements outside of `used` are not read.
void MultiplyMatrix(const float* a, const float* b, const Sizes& in, const Sizes& used, float* c) {
  for (int64_t i = 0; i < used.m; ++i) {
    for (int64_t l = 0; l < used.k; ++l) {
      const float factor = a[i * in.k + l];
      for (int64_t j = 0; j < used.n; ++j) c[i * in.n + j] += factor * b[l * in.n + j];
    }
  }
}

// Several matrices of c may share one of a or b: a group of query heads its key/value head.
// used(entry) has the sizes of an entry of the batch. What is outside of them in c is NaN.
template <typename Used>
Values Matmul(const GraphTensor& a, const Values& a_values, const GraphTensor& b,
              const Values& b_values, const GraphTensor& c, Used used) {
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
  Values values(c.num_elements(), NAN);
  const int64_t count = c.num_elements() / (m * n);
  for (int64_t i = 0; i < count; ++i) {
    const Sizes part = used(i / (count / c.dims[0]), Sizes{m, n, k});
    float* const to = &values[i * m * n];
    for (int64_t row = 0; row < part.m; ++row) std::fill_n(to + row * n, part.n, 0.0f);
    MultiplyMatrix(&a_values[matrix_of(a, i) * m * k], &b_values[matrix_of(b, i) * k * n],
                   {m, n, k}, part, to);
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
    case CUDNN_POINTWISE_CMP_LT:
      return x < b ? 1.0f : 0.0f;
    case CUDNN_POINTWISE_LOGICAL_AND:
      return x != 0 && b != 0 ? 1.0f : 0.0f;
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

  // Returns what is wrong with the lengths and offsets of the operations' tensors.
  std::string ReadLengths(const std::vector<GraphOperation>& operations) {
    for (const GraphOperation& operation : operations) {
      for (const int64_t uid : operation.lengths) {
        if (uid == kNoTensor) continue;
        const Dims lengths = Integers(uid);
        // Those of attention of a sequence on itself.
        if (!lengths_.empty() && lengths != lengths_) return "lengths of rows and columns differ";
        lengths_ = lengths;
      }
    }
    for (const auto& [uid, tensor] : tensors_) {
      const std::string wrong = tensor.is_ragged() ? CheckOffsets(tensor) : "";
      if (!wrong.empty()) return "tensor " + std::to_string(uid) + " " + wrong;
    }
    return "";
  }

  void Run(const GraphOperation& operation) {
    const GraphTensor& output = tensors_.at(operation.output);
    Values values = Compute(operation, output);
    RoundTo(output.dtype, &values);
    if (!output.is_virtual) StoreOutput(values, output);
    values_[output.uid] = std::move(values);
  }

 private:
  Dims Integers(int64_t uid) const {
    const GraphTensor& tensor = tensors_.at(uid);
    Dims values;
    for (int64_t i = 0; i < tensor.dims[0]; ++i) {
      values.push_back(ReadInteger(addresses_.at(uid), tensor.dtype, i));
    }
    return values;
  }

  // Entries may not overlap, and bf16 is read in units of 16 bytes.
  std::string CheckOffsets(const GraphTensor& tensor) const {
    const Dims offsets = Integers(tensor.offsets);
    const int64_t row = tensor.ragged_dim();
    for (size_t i = 0; i < lengths_.size(); ++i) {
      const std::string entry = "has entry " + std::to_string(i);
      if (lengths_[i] < 0 || lengths_[i] > tensor.dims[row]) {
        return entry + " of " + std::to_string(lengths_[i]) + " rows";
      }
      if (offsets[i] < 0 || offsets[i + 1] - offsets[i] < lengths_[i] * tensor.strides[row]) {
        return entry + ", which reaches into the next";
      }
      if (tensor.dtype == CUDNN_DATA_BFLOAT16 && offsets[i] % 8 != 0) {
        return entry + ", which is not aligned";
      }
    }
    return "";
  }

  void StoreOutput(const Values& values, const GraphTensor& t) const {
    void* const data = addresses_.at(t.uid);
    if (!t.is_ragged()) return Store(values, t, data);
    auto next = values.begin();
    ForEachRagged(t.dims, t.strides, t.ragged_dim(), Integers(t.offsets), lengths_,
                  [&](int64_t at) {
                    if (at >= 0) StoreOne(*next, t.dtype, data, at);
                    ++next;
                  });
  }

  // As a tensor of y's dims and strides.
  Values LoadInput(int64_t uid, const GraphTensor& y) const {
    const GraphTensor& t = tensors_.at(uid);
    const void* const data = addresses_.at(uid);
    if (!y.is_ragged()) return Load(data, t.dtype, y.dims, y.strides);
    Values values;
    ForEachRagged(y.dims, y.strides, y.ragged_dim(), Integers(y.offsets), lengths_,
                  [&](int64_t at) { values.push_back(at < 0 ? NAN : Read(data, t.dtype, at)); });
    return values;
  }

  Sizes Used(const GraphOperation& matmul, int64_t entry, const Sizes& all) const {
    const auto used = [&](int i, int64_t size) {
      return matmul.lengths[i] == kNoTensor ? size : lengths_[entry];
    };
    return {used(0, all.m), used(1, all.n), used(2, all.k)};
  }

  const Values& Input(int64_t uid) {
    const auto found = values_.find(uid);
    if (found != values_.end()) return found->second;
    const GraphTensor& t = tensors_.at(uid);
    if (t.by_value) return values_[uid] = {scalars_.at(uid)};
    return values_[uid] = LoadInput(uid, t);
  }

  Values Compute(const GraphOperation& operation, const GraphTensor& output) {
    const GraphTensor& x = tensors_.at(operation.inputs[0]);
    switch (operation.type) {
      case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: {
        const GraphTensor& b = tensors_.at(operation.inputs[1]);
        return Matmul(x, Input(x.uid), b, Input(b.uid), output,
                      [&](int64_t entry, const Sizes& all) { return Used(operation, entry, all); });
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
    return LoadInput(x.uid, y);
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
  Dims lengths_;  // of the batch's entries; empty where it has none
};

}  // namespace

std::string OperationGraph::Run(const std::map<int64_t, void*>& addresses,
                                const std::map<int64_t, float>& scalars) const {
  Interpreter interpreter(tensors_, addresses, scalars);
  const std::string wrong = interpreter.ReadLengths(operations_);
  if (!wrong.empty()) return wrong;
  for (const GraphOperation& operation : operations_) interpreter.Run(operation);
  return "";
}

}  // namespace strake::testing
