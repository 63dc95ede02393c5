#include "core/cuda/cudnn_attention.h"

#include <array>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/cuda/cudnn_graphs.h"
#include "glog/logging.h"

namespace strake {
namespace {

using cudnn_frontend::error_code_t;
using cudnn_frontend::error_t;
using Addresses = std::unordered_map<int64_t, void*>;  // the frontend's type

constexpr int64_t kElementBytes = 2;

// Adds the views of the heads of a fused matrix.
void AddHeads(const CudnnAttentionShape& s, const void* fused, CudnnTensor q, CudnnTensor k,
              CudnnTensor v, Addresses* addresses) {
  char* const row = static_cast<char*>(const_cast<void*>(fused));
  const int64_t head_bytes = s.head_dim * kElementBytes;
  addresses->emplace(q, row);
  addresses->emplace(k, row + s.num_heads * head_bytes);
  addresses->emplace(v, row + (s.num_heads + s.num_kv_heads) * head_bytes);
}

void SetGroup(const CudnnDocuments& documents, int64_t group, Addresses* addresses) {
  auto* const lengths = const_cast<int32_t*>(documents.lengths + group * documents.length_stride);
  (*addresses)[kQueryLengths] = (*addresses)[kKeyLengths] = lengths;
  const auto offsets = [&](const int64_t* of) {
    return const_cast<int64_t*>(of + group * documents.offset_stride);
  };
  (*addresses)[kFusedOffsets] = offsets(documents.fused);
  (*addresses)[kOutputOffsets] = offsets(documents.output);
  (*addresses)[kLseOffsets] = offsets(documents.lse);
}

absl::Status CheckWorkspace(absl::string_view pass, const CudnnAttentionShape& shape,
                            const CudnnGraph& graph, size_t planned_bytes) {
  int64_t bytes = 0;
  STRAKE_RETURN_IF_ERROR(
      CallCudnn("sizing the workspace", shape, [&] { return graph->get_workspace_size(bytes); }));
  if (bytes <= planned_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("cuDNN wants a workspace of ", bytes, " bytes for the ", pass, " pass of ",
                   shape.ToString(), ", and ", planned_bytes, " were planned"));
}

class CudnnAttentionImpl : public CudnnAttention {
 public:
  explicit CudnnAttentionImpl(int device) : device_(device) {}

  absl::Status Prepare(const CudnnAttentionShape& shape) override {
    const Key key = KeyOf(shape);
    const auto found = plans_.find(key);
    if (found != plans_.end()) return found->second.status();
    return plans_.try_emplace(key, Plan(shape)).first->second.status();
  }

  absl::Status Forward(CudaStream stream, const CudnnAttentionShape& shape, const void* qkv,
                       void* y, float* lse, void* workspace,
                       const CudnnDocuments& documents) override {
    Addresses addresses = {{kY, y}, {kLse, lse}};
    AddHeads(shape, qkv, kQ, kK, kV, &addresses);
    return ExecuteGroups("the forward pass", stream, shape, &Plans::forward, documents, &addresses,
                         workspace);
  }

  absl::Status Backward(CudaStream stream, const CudnnAttentionShape& shape, const void* dy,
                        const void* qkv, const void* y, const float* lse, void* dqkv,
                        void* workspace, const CudnnDocuments& documents) override {
    Addresses addresses = {
        {kDy, const_cast<void*>(dy)}, {kY, const_cast<void*>(y)}, {kLse, const_cast<float*>(lse)}};
    AddHeads(shape, qkv, kQ, kK, kV, &addresses);
    AddHeads(shape, dqkv, kDq, kDk, kDv, &addresses);
    return ExecuteGroups("the backward pass", stream, shape, &Plans::backward, documents,
                         &addresses, workspace);
  }

 private:
  struct Plans {
    CudnnGraph forward, backward;
  };
  using Key = std::tuple<std::array<int64_t, 8>, std::array<double, 2>>;

  struct Destroy {
    void operator()(cudnnHandle_t handle) const {
      (void)cudnn_frontend::detail::destroy_handle(handle);
    }
  };

  static Key KeyOf(const CudnnAttentionShape& s) {
    return {{s.batch, s.seq_len, s.num_heads, s.num_kv_heads, s.head_dim, s.deterministic,
             s.HasWindow() ? s.window : 0, s.num_documents},
            {s.score_scale, s.score_softcap}};
  }

  absl::StatusOr<Plans> Plan(const CudnnAttentionShape& shape) {
    STRAKE_RETURN_IF_ERROR(CheckCudnnTakes(shape));
    STRAKE_RETURN_IF_ERROR(LoadCudnn());
    STRAKE_RETURN_IF_ERROR(MakeHandle(shape));
    STRAKE_ASSIGN_OR_RETURN(const CudaDevice device, DescribeCudaDevice(device_));
    const CudnnTarget target = {10 * device.major + device.minor, handle_.get(), nullptr};
    Plans plans;
    STRAKE_ASSIGN_OR_RETURN(plans.forward, BuildCudnnForward(target, shape));
    STRAKE_RETURN_IF_ERROR(
        CheckWorkspace("forward", shape, plans.forward, CudnnForwardWorkspaceBytes(shape)));
    STRAKE_ASSIGN_OR_RETURN(plans.backward, BuildCudnnBackward(target, shape));
    STRAKE_RETURN_IF_ERROR(
        CheckWorkspace("backward", shape, plans.backward, CudnnBackwardWorkspaceBytes(shape)));
    return plans;
  }

  absl::Status MakeHandle(const CudnnAttentionShape& shape) {
    if (handle_ != nullptr) return absl::OkStatus();
    cudnnHandle_t handle = nullptr;
    STRAKE_RETURN_IF_ERROR(CallCudnn("creating a handle", shape, [&] {
      return AsError(cudnn_frontend::detail::create_handle(&handle));
    }));
    handle_.reset(handle);
    return absl::OkStatus();
  }

  absl::Status ExecuteGroups(absl::string_view what, CudaStream stream,
                             const CudnnAttentionShape& shape, CudnnGraph Plans::*pass,
                             const CudnnDocuments& documents, Addresses* addresses,
                             void* workspace) {
    CHECK_EQ(documents.num_groups > 0, shape.num_documents > 0)
        << "[causal_attention] documents: " << shape.ToString();
    if (shape.num_documents == 0) return Execute(what, stream, shape, pass, addresses, workspace);
    for (int64_t group = 0; group < documents.num_groups; ++group) {
      SetGroup(documents, group, addresses);
      STRAKE_RETURN_IF_ERROR(Execute(what, stream, shape, pass, addresses, workspace));
    }
    return absl::OkStatus();
  }

  absl::Status Execute(absl::string_view what, CudaStream stream, const CudnnAttentionShape& shape,
                       CudnnGraph Plans::*pass, Addresses* addresses, void* workspace) {
    const auto found = plans_.find(KeyOf(shape));
    CHECK(found != plans_.end() && found->second.ok())
        << "[causal_attention] not prepared: " << shape.ToString();
    const CudnnGraph& graph = (*found->second).*pass;
    return CallCudnn(what, shape, [&] {
      const error_t set = AsError(cudnn_frontend::detail::set_stream(handle_.get(), stream));
      return set.is_bad() ? set : graph->execute(handle_.get(), *addresses, workspace);
    });
  }

  static error_t AsError(cudnnStatus_t status) {
    if (status == CUDNN_STATUS_SUCCESS) return {};
    return {error_code_t::HANDLE_ERROR,
            absl::StrCat(cudnn_frontend::detail::get_error_string(status), " (",
                         cudnn_frontend::detail::get_last_error_string_(), ")")};
  }

  int device_;
  std::unique_ptr<cudnnContext, Destroy> handle_;
  absl::flat_hash_map<Key, absl::StatusOr<Plans>> plans_;
};

}  // namespace

std::unique_ptr<CudnnAttention> CudnnAttention::Create(int device) {
  return std::make_unique<CudnnAttentionImpl>(device);
}

size_t CudnnAttention::ForwardWorkspaceBytes(const CudnnAttentionShape& shape) {
  return CheckCudnnTakes(shape).ok() ? CudnnForwardWorkspaceBytes(shape) : 0;
}

size_t CudnnAttention::BackwardWorkspaceBytes(const CudnnAttentionShape& shape) {
  return CheckCudnnTakes(shape).ok() ? CudnnBackwardWorkspaceBytes(shape) : 0;
}

}  // namespace strake
