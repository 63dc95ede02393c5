#include "core/ops/copy.h"

#include <cstring>

#include "core/cuda/cuda_runtime.h"
#include "core/ops/dispatch.h"
#include "glog/logging.h"

namespace strake {

absl::Status Copy(const Context& ctx, const Tensor& from, Tensor to) {
  const bool on_cuda = OnCuda("copy", ctx, from, to);
  CHECK(from.dtype() == to.dtype() && from.num_elements() == to.num_elements())
      << "[copy] from " << from.ToString() << " to " << to.ToString();
  if (ctx.dry_run() || from.raw() == to.raw() || from.num_bytes() == 0) return absl::OkStatus();
  if (on_cuda) return CopyOnDevice(to.raw(), from.raw(), from.num_bytes(), ctx.cuda_stream());
  std::memcpy(to.raw(), from.raw(), from.num_bytes());
  return absl::OkStatus();
}

absl::Status SetZero(const Context& ctx, Tensor x) {
  const bool on_cuda = OnCuda("set_zero", ctx, x);
  if (ctx.dry_run() || x.num_bytes() == 0) return absl::OkStatus();
  if (on_cuda) return SetBytesOnDevice(x.raw(), 0, x.num_bytes(), ctx.cuda_stream());
  std::memset(x.raw(), 0, x.num_bytes());
  return absl::OkStatus();
}

}  // namespace strake
