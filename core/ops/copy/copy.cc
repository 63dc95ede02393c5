#include "core/ops/copy/copy.h"

#include <cstring>

#include "core/base/dtype.h"
#include "core/cuda/cuda_runtime.h"
#include "core/ops/dispatch.h"
#include "glog/logging.h"

namespace strake {

absl::Status Copy(const Context& ctx, const Tensor& from, Tensor to) {
  const bool on_cuda = OnCuda("copy", ctx, from, to);
  CHECK(from.dtype() == to.dtype() && from.num_elements() == to.num_elements())
      << "[copy] from " << from.ToString() << " to " << to.ToString();
  if (from.num_bytes() == 0) return absl::OkStatus();
  const OpScope op(ctx, "copy", [&](OpCall& call) { call.In("from", from).Out("to", to); });
  if (ctx.dry_run() || from.raw() == to.raw()) return absl::OkStatus();
  if (on_cuda) return CopyOnDevice(to.raw(), from.raw(), from.num_bytes(), ctx.cuda_stream());
  std::memcpy(to.raw(), from.raw(), from.num_bytes());
  return absl::OkStatus();
}

absl::Status CopyRows(const Context& ctx, const Tensor& from, int64_t from_stride, int64_t rows,
                      int64_t columns, Tensor to, int64_t to_stride) {
  const bool on_cuda = OnCuda("copy_rows", ctx, from, to);
  const auto fits = [&](const Tensor& x, int64_t stride) {
    const int64_t size = rows == 0 ? 0 : (rows - 1) * stride + columns;
    return columns <= stride && x.shape() == Shape{size};
  };
  CHECK(from.dtype() == to.dtype() && fits(from, from_stride) && fits(to, to_stride))
      << "[copy_rows] " << rows << " rows of " << columns << " from " << from.ToString()
      << " every " << from_stride << " to " << to.ToString() << " every " << to_stride;
  if (rows * columns == 0) return absl::OkStatus();
  const size_t element_bytes = DTypeSize(from.dtype());
  const OpScope op(ctx, "copy_rows", [&](OpCall& call) {
    const double num_bytes = 1.0 * rows * columns * element_bytes;
    call.In("from", from, num_bytes).Out("to", to, num_bytes);
    call.Set("rows", rows).Set("columns", columns);
    call.Set("from_stride", from_stride).Set("to_stride", to_stride);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return CopyRowsOnDevice(to.raw(), to_stride * element_bytes, from.raw(),
                            from_stride * element_bytes, columns * element_bytes, rows,
                            ctx.cuda_stream());
  }
  for (int64_t row = 0; row < rows; ++row) {
    std::memcpy(static_cast<char*>(to.raw()) + row * to_stride * element_bytes,
                static_cast<const char*>(from.raw()) + row * from_stride * element_bytes,
                columns * element_bytes);
  }
  return absl::OkStatus();
}

absl::Status SetZero(const Context& ctx, Tensor x) {
  const bool on_cuda = OnCuda("set_zero", ctx, x);
  if (x.num_bytes() == 0) return absl::OkStatus();
  const OpScope op(ctx, "set_zero", [&](OpCall& call) { call.Out("x", x); });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) return SetBytesOnDevice(x.raw(), 0, x.num_bytes(), ctx.cuda_stream());
  std::memset(x.raw(), 0, x.num_bytes());
  return absl::OkStatus();
}

}  // namespace strake
