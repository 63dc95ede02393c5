#include "models/rope_tables.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {

// The longest sequence that takes the short factors, where longer ones take others.
int64_t OriginalPositions(const RopeConfig& config) {
  const auto* scaling = std::get_if<RopeLongScaling>(&config.scaling);
  if (scaling == nullptr || scaling->short_factors == scaling->long_factors) return 0;
  return scaling->original_positions;
}

}  // namespace

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
    const int64_t original = OriginalPositions(*rope);
    if (0 < original && original < max_seq_len) table.angles.push_back({original});
    table.angles.push_back({max_seq_len});
    tables_.push_back(std::move(table));
  }
}

int64_t RopeTables::ChangesAfter() const {
  for (const Table& table : tables_) {
    if (table.angles.size() > 1) return table.angles.front().num_positions;
  }
  return 0;
}

const Tensor& RopeTables::Host(const Table& table, const Angles& angles) {
  if (!angles.host.tensor().defined()) {
    angles.host = TensorBuffer(DType::kF64, {angles.num_positions, table.columns});
    RopeTable(table.config, angles.host);
  }
  return angles.host.tensor();
}

absl::Status RopeTables::PlaceOn(Device device) {
  if (device == Device::kCpu) return absl::OkStatus();
  for (Table& table : tables_) {
    for (Angles& angles : table.angles) {
      const Tensor& host = Host(table, angles);
      STRAKE_ASSIGN_OR_RETURN(angles.on_gpu,
                              DeviceBuffer::Create(device, host.dtype(), host.shape()));
      STRAKE_RETURN_IF_ERROR(CopyBlocking(host, angles.on_gpu.tensor()));
    }
  }
  return absl::OkStatus();
}

Tensor RopeTables::Get(const Context& ctx, int index, int64_t length) const {
  const Table& table = tables_[index];
  const Angles& angles =
      length <= table.angles.front().num_positions ? table.angles.front() : table.angles.back();
  const Device device = ctx.arena().device();
  if (ctx.dry_run()) {
    return Tensor(nullptr, DType::kF64, {angles.num_positions, table.columns}, device);
  }
  if (device == Device::kCpu) return Host(table, angles);
  CHECK(angles.on_gpu.tensor().defined()) << "[rope_tables] on a GPU without PlaceOn()";
  return angles.on_gpu.tensor();
}

}  // namespace strake
