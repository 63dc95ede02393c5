#include "core/cuda/cudnn_graphs.h"

#include <cmath>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/dynamic_library.h"
#include "core/base/status_macros.h"

namespace cudnn_frontend {
// The library in which the frontend looks up cuDNN's functions. The frontend's user must define it.
void* cudnn_dlhandle = nullptr;
}  // namespace cudnn_frontend

namespace strake {
namespace {

using cudnn_frontend::CudaGraphRetention_t;
using cudnn_frontend::DataType_t;
using cudnn_frontend::DiagonalAlignment_t;
using cudnn_frontend::error_t;
using cudnn_frontend::graph::Graph;
using cudnn_frontend::graph::SDPA_attributes;
using cudnn_frontend::graph::SDPA_backward_attributes;
using cudnn_frontend::graph::Tensor_attributes;
using TensorPtr = std::shared_ptr<Tensor_attributes>;

absl::Status Load() {
  STRAKE_ASSIGN_OR_RETURN(const DynamicLibrary library,
                          DynamicLibrary::Load("cuDNN", {"libcudnn.so.9"}));
  STRAKE_ASSIGN_OR_RETURN(size_t(*const version)(), library.Function<size_t()>("cudnnGetVersion"));
  STRAKE_RETURN_IF_ERROR(CheckCudnnVersion(version(), library.path()));
  cudnn_frontend::cudnn_dlhandle = library.handle();
  return absl::OkStatus();
}

CudnnGraph NewGraph(const CudnnTarget& target) {
  auto graph = std::make_unique<Graph>();
  graph->set_io_data_type(DataType_t::BFLOAT16)
      .set_intermediate_data_type(DataType_t::FLOAT)
      .set_compute_data_type(DataType_t::FLOAT)
      .set_sm_version(target.architecture)
      .set_device_properties(target.properties)
      // A CUDA graph of ours never outlives its plans. Otherwise the frontend asks at every
      // execution whether the stream is captured. For that it loads a shared CUDA runtime, which a
      // machine with the driver and cuDNN alone does not have.
      .set_cuda_graph_retention(CudaGraphRetention_t::NONE);
  return graph;
}

// The attention of one shape within a graph. cuDNN's dimensions are [B, heads, T, D], or
// [E, heads, T, D] where there are documents: each begins at its offset, in elements, and the rows
// after its length are never touched.
class Attention {
 public:
  // `count` documents per execution; 0 for none.
  Attention(const CudnnAttentionShape& shape, int64_t count, Graph* graph)
      : s_(shape), batch_(count > 0 ? count : shape.batch), graph_(graph) {
    if (!has_documents()) return;
    query_lengths_ = AddIntegers(kQueryLengths, count, DataType_t::INT32);
    key_lengths_ = AddIntegers(kKeyLengths, count, DataType_t::INT32);
    fused_offsets_ = AddIntegers(kFusedOffsets, count + 1, DataType_t::INT64);
    output_offsets_ = AddIntegers(kOutputOffsets, count + 1, DataType_t::INT64);
    lse_offsets_ = AddIntegers(kLseOffsets, count + 1, DataType_t::INT64);
  }

  // Adds which keys a query sees, and how scores are made.
  template <typename Attributes>
  Attributes WithScores(Attributes attributes) const {
    const bool has_scale = s_.score_scale != 0;
    attributes.set_diagonal_alignment(DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0)
        .set_attn_scale(has_scale ? static_cast<float>(s_.score_scale)
                                  : 1 / std::sqrt(static_cast<float>(s_.head_dim)));
    // The query of row q sees the keys of columns k with k + left bound > q.
    if (s_.HasWindow()) attributes.set_diagonal_band_left_bound(static_cast<int>(s_.window));
    if (has_documents()) {
      attributes.set_padding_mask(true).set_seq_len_q(query_lengths_).set_seq_len_kv(key_lengths_);
    }
    return attributes;
  }

  void DescribeQuery(CudnnTensor name, Tensor_attributes* t) const {
    Describe(name, s_.num_heads, fused_heads(), fused_offsets_, t);
  }
  void DescribeKey(CudnnTensor name, Tensor_attributes* t) const {
    Describe(name, s_.num_kv_heads, fused_heads(), fused_offsets_, t);
  }
  void DescribeOutput(CudnnTensor name, Tensor_attributes* t) const {
    Describe(name, s_.num_heads, s_.num_heads, output_offsets_, t);
  }
  void DescribeLse(CudnnTensor name, Tensor_attributes* t) const {
    t->set_uid(name)
        .set_dim({batch_, s_.num_heads, s_.seq_len, 1})
        .set_stride({s_.num_heads * s_.seq_len, s_.seq_len, 1, 1})
        .set_data_type(DataType_t::FLOAT);
    if (has_documents()) t->set_ragged_offset(lse_offsets_);
  }

  // Adds an input.
  template <typename DescribeIt>
  TensorPtr Add(CudnnTensor name, DescribeIt describe) const {
    Tensor_attributes attributes;
    (this->*describe)(name, &attributes);
    return graph_->tensor(attributes);
  }

 private:
  bool has_documents() const { return s_.num_documents > 0; }
  int64_t fused_heads() const { return s_.num_heads + 2 * s_.num_kv_heads; }

  TensorPtr AddIntegers(CudnnTensor name, int64_t count, DataType_t dtype) const {
    return graph_->tensor(Tensor_attributes()
                              .set_uid(name)
                              .set_dim({count, 1, 1, 1})
                              .set_stride({1, 1, 1, 1})
                              .set_data_type(dtype));
  }

  // `heads` heads, in rows of `row_heads` heads.
  void Describe(CudnnTensor name, int64_t heads, int64_t row_heads, const TensorPtr& offsets,
                Tensor_attributes* t) const {
    const int64_t row = row_heads * s_.head_dim;
    t->set_uid(name)
        .set_dim({batch_, heads, s_.seq_len, s_.head_dim})
        .set_stride({s_.seq_len * row, s_.head_dim, row, 1});
    if (has_documents()) t->set_ragged_offset(offsets);
  }

  CudnnAttentionShape s_;
  int64_t batch_;  // B or E
  Graph* graph_;
  TensorPtr query_lengths_, key_lengths_, fused_offsets_, output_offsets_, lse_offsets_;
};

// Builds the first of the heuristic's plans that the library can build.
error_t Build(const CudnnTarget& target, bool deterministic, Graph* graph) {
  using cudnn_frontend::BuildPlanPolicy_t;
  using cudnn_frontend::HeurMode_t;
  using cudnn_frontend::NumericalNote_t;
  if (error_t e = graph->validate(); e.is_bad()) return e;
  if (error_t e = graph->build_operation_graph(target.handle); e.is_bad()) return e;
  if (error_t e = graph->create_execution_plans({HeurMode_t::A}); e.is_bad()) return e;
  if (deterministic) graph->deselect_numeric_notes({NumericalNote_t::NONDETERMINISTIC});
  if (error_t e = graph->check_support(); e.is_bad()) return e;
  return graph->build_plans(BuildPlanPolicy_t::HEURISTICS_CHOICE);
}

void AddForward(const CudnnAttentionShape& shape, Graph* graph) {
  const Attention attention(shape, shape.num_documents, graph);
  const TensorPtr q = attention.Add(kQ, &Attention::DescribeQuery);
  const TensorPtr k = attention.Add(kK, &Attention::DescribeKey);
  const TensorPtr v = attention.Add(kV, &Attention::DescribeKey);
  const auto [y, lse] =
      graph->sdpa(q, k, v,
                  attention.WithScores(
                      SDPA_attributes().set_name("causal_attention").set_generate_stats(true)));
  attention.DescribeOutput(kY, &y->set_output(true));
  attention.DescribeLse(kLse, &lse->set_output(true));
}

// The form of the graph decides whether the pass is deterministic: neither 9.19 nor 9.28 notes that
// an engine of attention is not.
void AddBackward(const CudnnAttentionShape& shape, Graph* graph) {
  const Attention attention(shape, shape.num_documents == 0 ? 0 : shape.batch, graph);
  const TensorPtr q = attention.Add(kQ, &Attention::DescribeQuery);
  const TensorPtr k = attention.Add(kK, &Attention::DescribeKey);
  const TensorPtr v = attention.Add(kV, &Attention::DescribeKey);
  const TensorPtr y = attention.Add(kY, &Attention::DescribeOutput);
  const TensorPtr dy = attention.Add(kDy, &Attention::DescribeOutput);
  const TensorPtr lse = attention.Add(kLse, &Attention::DescribeLse);
  const auto [dq, dk, dv] = graph->sdpa_backward(
      q, k, v, y, dy, lse,
      attention.WithScores(SDPA_backward_attributes()
                               .set_name("causal_attention's gradient")
                               .set_deterministic_algorithm(shape.deterministic)));
  attention.DescribeQuery(kDq, &dq->set_output(true));
  attention.DescribeKey(kDk, &dk->set_output(true));
  attention.DescribeKey(kDv, &dv->set_output(true));
}

template <typename AddNodes>
absl::StatusOr<CudnnGraph> BuildGraph(absl::string_view what, const CudnnTarget& target,
                                      const CudnnAttentionShape& shape, bool deterministic,
                                      AddNodes add) {
  CudnnGraph graph;
  STRAKE_RETURN_IF_ERROR(CallCudnn(what, shape, [&] {
    graph = NewGraph(target);
    add(shape, graph.get());
    return Build(target, deterministic, graph.get());
  }));
  return graph;
}

// Shortens a message to one line, without the dozens of lines on engines that may follow.
std::string Shortened(std::string text) {
  constexpr size_t kMaxLength = 400;
  if (text.size() > kMaxLength) text = text.substr(0, kMaxLength) + "...";
  return absl::StrReplaceAll(text, {{"\n", "; "}});
}

}  // namespace

absl::Status LoadCudnn() {
  static const auto* const status = new absl::Status(Load());
  return *status;
}

absl::StatusOr<CudnnGraph> BuildCudnnForward(const CudnnTarget& target,
                                             const CudnnAttentionShape& shape) {
  return BuildGraph("planning the forward pass", target, shape, true, AddForward);
}

absl::StatusOr<CudnnGraph> BuildCudnnBackward(const CudnnTarget& target,
                                              const CudnnAttentionShape& shape) {
  return BuildGraph("planning the backward pass", target, shape, shape.deterministic, AddBackward);
}

absl::Status CallCudnn(absl::string_view what, const CudnnAttentionShape& shape,
                       absl::FunctionRef<error_t()> call) {
  std::string message;
  try {
    error_t error = call();
    if (error.is_good()) return absl::OkStatus();
    message = error.get_message();
  } catch (const std::exception& e) {
    message = e.what();
  }
  return absl::InternalError(absl::StrCat("[causal_attention] cuDNN, ", what, " of ",
                                          shape.ToString(), ": ", Shortened(std::move(message))));
}

}  // namespace strake
