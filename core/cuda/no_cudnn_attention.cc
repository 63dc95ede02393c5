// cudnn_attention.h in a build without cuDNN.
#include "absl/status/status.h"
#include "core/cuda/cudnn_attention.h"

namespace strake {
namespace {

absl::Status NoCudnn() {
  return absl::UnimplementedError(
      "this build has no cuDNN: its headers were not there; build with ./bazelw --config=cuda, "
      "which installs the package nvidia-cudnn-frontend with pip, where cudnn.h is installed");
}

class NoCudnnAttention : public CudnnAttention {
 public:
  absl::Status Prepare(const CudnnAttentionShape&) override { return NoCudnn(); }
  absl::Status Forward(CudaStream, const CudnnAttentionShape&, const void*, void*, float*, void*,
                       const CudnnDocuments&) override {
    return NoCudnn();
  }
  absl::Status Backward(CudaStream, const CudnnAttentionShape&, const void*, const void*,
                        const void*, const float*, void*, void*, const CudnnDocuments&) override {
    return NoCudnn();
  }
};

}  // namespace

std::unique_ptr<CudnnAttention> CudnnAttention::Create(int) {
  return std::make_unique<NoCudnnAttention>();
}
size_t CudnnAttention::ForwardWorkspaceBytes(const CudnnAttentionShape&) { return 0; }
size_t CudnnAttention::BackwardWorkspaceBytes(const CudnnAttentionShape&) { return 0; }

}  // namespace strake
