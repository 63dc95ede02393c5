#include "models/rope_tables.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {

RopeTables::RopeTables(const ModelConfig& config, int64_t max_seq_len) : max_seq_len_(max_seq_len) {
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::optional<RopeConfig>& rope = config.AttentionOf(layer).rope;
    if (!rope.has_value()) {
      layer_indices_.push_back(-1);
      continue;
    }
    const auto same = std::find_if(tables_.begin(), tables_.end(),
                                   [&](const Table& table) { return table.config == *rope; });
    layer_indices_.push_back(static_cast<int>(same - tables_.begin()));
    if (same != tables_.end()) continue;
    Table table;
    table.config = *rope;
    table.columns = rope->rotary_dim == 0 ? config.head_dim : rope->rotary_dim;
    tables_.push_back(std::move(table));
  }
}

const Tensor& RopeTables::Host(const Table& table) const {
  if (!table.host.tensor().defined()) {
    table.host = TensorBuffer(DType::kF64, {max_seq_len_, table.columns});
    RopeTable(table.config, table.host);
  }
  return table.host.tensor();
}

absl::Status RopeTables::PlaceOn(Device device) {
  if (device == Device::kCpu) return absl::OkStatus();
  for (Table& table : tables_) {
    const Tensor& host = Host(table);
    STRAKE_ASSIGN_OR_RETURN(table.on_gpu, DeviceBuffer::Create(device, host.dtype(), host.shape()));
    STRAKE_RETURN_IF_ERROR(CopyBlocking(host, table.on_gpu.tensor()));
  }
  return absl::OkStatus();
}

Tensor RopeTables::Get(const Context& ctx, int index) const {
  const Table& table = tables_[index];
  const Device device = ctx.arena().device();
  if (ctx.dry_run()) return Tensor(nullptr, DType::kF64, {max_seq_len_, table.columns}, device);
  if (device == Device::kCpu) return Host(table);
  CHECK(table.on_gpu.tensor().defined()) << "[rope_tables] on a GPU without PlaceOn()";
  return table.on_gpu.tensor();
}

}  // namespace strake
