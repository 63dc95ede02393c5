#include "models/gguf/gguf_weights.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/strings/substitute.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "models/checkpoint/hf_slice.h"
#include "models/families/family.h"
#include "models/gguf/gguf_model_keys.h"
#include "models/gguf/q8_0.h"

namespace strake {
namespace {

enum class Role { kTable, kPositions, kMatrix, kRotated, kNorm };

// A tensor of families' files and its name in GGUF, without ".weight" or ".bias".
struct NameRow {
  const char* TensorNames::*in_family;
  const char* name;
  Role role;
};

constexpr NameRow kNames[] = {
    {&TensorNames::token_embedding, "token_embd", Role::kTable},
    {&TensorNames::position_embedding, "position_embd", Role::kPositions},
    {&TensorNames::attention_norm, "blk.$0.attn_norm", Role::kNorm},
    {&TensorNames::query, "blk.$0.attn_q", Role::kRotated},
    {&TensorNames::key, "blk.$0.attn_k", Role::kRotated},
    {&TensorNames::value, "blk.$0.attn_v", Role::kMatrix},
    {&TensorNames::query_norm, "blk.$0.attn_q_norm", Role::kNorm},
    {&TensorNames::key_norm, "blk.$0.attn_k_norm", Role::kNorm},
    {&TensorNames::attention_output, "blk.$0.attn_output", Role::kMatrix},
    {&TensorNames::attention_post_norm, "blk.$0.post_attention_norm", Role::kNorm},
    {&TensorNames::mlp_norm, "blk.$0.ffn_norm", Role::kNorm},
    {&TensorNames::gate, "blk.$0.ffn_gate", Role::kMatrix},
    {&TensorNames::up, "blk.$0.ffn_up", Role::kMatrix},
    {&TensorNames::down, "blk.$0.ffn_down", Role::kMatrix},
    {&TensorNames::mlp_post_norm, "blk.$0.post_ffw_norm", Role::kNorm},
    {&TensorNames::final_norm, "output_norm", Role::kNorm},
    {&TensorNames::head, "output", Role::kTable},
};
constexpr char kHead[] = "output.weight";

struct Target {
  std::string name;
  Role role;
};

bool IsSame(const char* a, const char* b) {
  return a != nullptr && absl::string_view(a) == absl::string_view(b);
}

// The tensors in GGUF by their names in the family's files.
std::map<std::string, Target> TargetsOf(const ModelConfig& config) {
  const TensorNames& names = config.family->tensors;
  std::map<std::string, Target> targets;
  const auto add = [&](const char* pattern, const char* name, Role role, int64_t layer) {
    for (const char* suffix : {".weight", ".bias"}) {
      targets[absl::Substitute(pattern, layer) + suffix] = {absl::Substitute(name, layer) + suffix,
                                                            role};
    }
  };
  for (int64_t layer = 0; layer < std::max<int64_t>(config.num_layers, 1); ++layer) {
    for (const NameRow& row : kNames) {
      const char* pattern = names.*row.in_family;
      if (pattern != nullptr) add(pattern, row.name, row.role, layer);
    }
    // One tensor of several parts.
    if (IsSame(names.query, names.value)) add(names.query, "blk.$0.attn_qkv", Role::kMatrix, layer);
    if (IsSame(names.gate, names.up)) {
      add(names.up, "blk.$0.ffn_up", Role::kMatrix, layer);
    }
  }
  return targets;
}

GgufDType DTypeOf(Role role, const Shape& shape, GgufDType dtype) {
  if (shape.size() == 1 || role == Role::kPositions) return GgufDType::kF32;
  const bool blocks = shape.back() % kQ8BlockElements == 0;
  return dtype == GgufDType::kQ8_0 && !blocks ? GgufDType::kF16 : dtype;
}

// The tensor of `columns` columns of a parameter.
GgufTensor TensorOf(const ModelConfig& config, const ParameterRecord& record, const Target& target,
                    int64_t columns, GgufDType dtype) {
  GgufTensor tensor;
  const bool vector = record.shape().size() == 1;
  const bool table = target.role == Role::kTable || target.role == Role::kPositions;
  tensor.transposed = !vector && !table;
  if (vector) {
    tensor.spec.shape = {columns};
  } else if (table) {
    tensor.spec.shape = {record.segments[0].slice.full_rows, columns};  // without padding
  } else {
    tensor.spec.shape = {columns, record.shape()[0]};
  }
  tensor.spec.name = target.name;
  tensor.spec.dtype = DTypeOf(target.role, tensor.spec.shape, dtype);
  if (target.role == Role::kRotated && config.family->gguf.interleaved_rope) {
    tensor.interleaved_head_dim = config.head_dim;
  }
  if (target.role == Role::kNorm && config.norm_weight_plus_one) tensor.offset = 1;
  return tensor;
}

void AddTensorsOf(const ModelConfig& config, const std::map<std::string, Target>& targets,
                  const ParameterRecord& record, int parameter, GgufDType dtype,
                  std::vector<GgufTensor>* tensors) {
  int64_t column = 0;
  for (size_t first = 0; first < record.segments.size();) {
    const std::string& name = record.segments[first].name;
    int64_t columns = 0;
    for (; first < record.segments.size() && record.segments[first].name == name; ++first) {
      columns += record.segments[first].columns;
    }
    const auto target = targets.find(name);
    CHECK(target != targets.end()) << "[gguf] no name for " << name;
    GgufTensor tensor = TensorOf(config, record, target->second, columns, dtype);
    tensor.parameter = parameter;
    tensor.column = column;
    tensors->push_back(std::move(tensor));
    column += columns;
  }
}

// Row r of `from` [rows, width] becomes row 2i or 2i + 1 of its head's pairs.
void InterleaveRows(const float* from, int64_t rows, int64_t width, int64_t head_dim, float* to) {
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = row / head_dim * head_dim, i = row % head_dim;
    const int64_t half = head_dim / 2;
    const int64_t target = head + (i < half ? 2 * i : 2 * (i - half) + 1);
    std::copy_n(from + row * width, width, to + target * width);
  }
}

// The columns of a parameter as rows of the tensor, or all of a table or vector.
HfSlice SliceOf(const GgufTensor& tensor, const ParameterRecord& record) {
  const bool vector = record.shape().size() == 1;
  return {.name = tensor.spec.name,
          .file_shape = tensor.spec.shape,
          .transposed = tensor.transposed,
          .rows = vector              ? 1
                  : tensor.transposed ? record.shape()[0]
                                      : tensor.spec.shape[0],
          .columns = tensor.spec.shape[tensor.transposed ? 0 : tensor.spec.shape.size() - 1],
          .stride = record.shape().back(),
          .position = tensor.column};
}

// Whole heads, where their rows change places.
int64_t LinesAtATime(const GgufTensor& tensor, const HfSlice& slice) {
  const int64_t unit = std::max<int64_t>(tensor.interleaved_head_dim, 1);
  return std::max<int64_t>(slice.LinesAtATime() / unit, 1) * unit;
}

// Makes the tensor's numbers of a parameter's, `lines` [count, width]. A vector is one line, of
// which the elements are what the rows of a matrix are.
void Rearrange(const GgufTensor& tensor, int64_t count, int64_t width, std::vector<float>* lines) {
  if (tensor.interleaved_head_dim != 0) {
    const bool vector = tensor.spec.shape.size() == 1;
    const std::vector<float> from = *lines;
    InterleaveRows(from.data(), vector ? width : count, vector ? 1 : width,
                   tensor.interleaved_head_dim, lines->data());
  }
  if (tensor.offset == 0) return;
  for (float& value : *lines) value += tensor.offset;
}

absl::Status WriteWeight(const GgufTensor& tensor, const ParameterRecord& record,
                         const Tensor& values, GgufWriter* writer) {
  const HfSlice slice = SliceOf(tensor, record);
  const int64_t step = LinesAtATime(tensor, slice), width = slice.full_line_elements();
  for (int64_t first = 0; first < slice.num_full_lines(); first += step) {
    const int64_t count = std::min(step, slice.num_full_lines() - first);
    std::vector<float> lines(count * width);
    TakeLines(values, slice, first, count, lines.data());
    Rearrange(tensor, count, width, &lines);
    STRAKE_RETURN_IF_ERROR(writer->Append(lines.data(), count * width));
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<GgufTensor> GgufTensorsOf(const ModelConfig& config, const ParameterArena& whole,
                                      GgufDType dtype) {
  const std::map<std::string, Target> targets = TargetsOf(config);
  std::vector<GgufTensor> tensors;
  for (GgufRopeTensor& rope : GgufRopeTensors(config)) {
    GgufTensor& tensor = tensors.emplace_back();
    tensor.spec = {rope.name, {static_cast<int64_t>(rope.values.size())}, GgufDType::kF32};
    tensor.values = std::move(rope.values);
  }
  const size_t first_weight = tensors.size();
  for (int i = 0; i < static_cast<int>(whole.records().size()); ++i) {
    AddTensorsOf(config, targets, whole.records()[i], i, dtype, &tensors);
  }
  if (config.tie_word_embeddings && config.family->gguf.head == GgufUse::kAlways) {
    GgufTensor copy = tensors[first_weight];
    CHECK_EQ(copy.parameter, 0) << "[gguf] " << copy.spec.name << " is no table of tokens";
    copy.spec.name = kHead;
    tensors.push_back(std::move(copy));
  }
  return tensors;
}

absl::Status WriteGgufTensors(const std::vector<GgufTensor>& tensors, const ParameterArena& whole,
                              absl::FunctionRef<absl::StatusOr<Tensor>(int parameter)> fetch,
                              GgufWriter* writer) {
  Tensor values;
  int fetched = -1;
  for (const GgufTensor& tensor : tensors) {
    if (tensor.parameter < 0) {
      STRAKE_RETURN_IF_ERROR(writer->Append(tensor.values.data(), tensor.values.size()));
      continue;
    }
    const ParameterRecord& record = whole.records()[tensor.parameter];
    if (tensor.parameter != fetched) {
      STRAKE_ASSIGN_OR_RETURN(values, fetch(tensor.parameter));
      CHECK_EQ(values.num_elements(), record.num_elements())
          << "[gguf] " << values.ToString() << " for " << record.name() << " "
          << ShapeString(record.shape());
      fetched = tensor.parameter;
    }
    STRAKE_RETURN_IF_ERROR(WriteWeight(tensor, record, values, writer));
  }
  return absl::OkStatus();
}

}  // namespace strake
