// RopeTables: the angles that a model's layers rotate queries and keys by, a table for each
// distinct RopeConfig of them.
//
// A table is [max_seq_len, R] (f64), R the rotated features of a head (core/ops/rope/rope.h). Where
// a RopeLongScaling has other factors for shorter sequences than max_seq_len, there is a second
// table of them, for sequences that grow.
#ifndef STRAKE_MODELS_ROPE_TABLES_H_
#define STRAKE_MODELS_ROPE_TABLES_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/device/context.h"
#include "core/memory/device_memory.h"
#include "core/ops/rope/rope.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"
#include "models/model_config.h"

namespace strake {

class RopeTables {
 public:
  RopeTables(const ModelConfig& config, int64_t max_seq_len);

  // The number of tables.
  int size() const { return static_cast<int>(tables_.size()); }
  // The index of a layer's table; -1 where it does not rotate.
  int IndexOf(int64_t layer) const { return layer_indices_[layer]; }
  // The width R of a table.
  int64_t Columns(int index) const { return tables_[index].columns; }

  // The longest sequence whose angles change as soon as it grows; 0 where none do.
  int64_t ChangesAfter() const;

  // Copies the tables to a GPU. ResourceExhausted when there is no memory.
  absl::Status PlaceOn(Device device);

  // Returns a table on the context's device: null in a dry run. CHECKs PlaceOn() for a GPU.
  Tensor Get(const Context& ctx, int index) const { return Get(ctx, index, max_seq_len_); }
  // The same for a sequence that has `length` tokens so far.
  Tensor Get(const Context& ctx, int index, int64_t length) const;
  // A layer's table; undefined where it does not rotate.
  Tensor ForLayer(const Context& ctx, int64_t layer) const {
    return ForLayer(ctx, layer, max_seq_len_);
  }
  Tensor ForLayer(const Context& ctx, int64_t layer, int64_t length) const {
    return IndexOf(layer) < 0 ? Tensor() : Get(ctx, IndexOf(layer), length);
  }

 private:
  struct Angles {
    int64_t num_positions;
    mutable TensorBuffer host = {};  // made by Host()
    DeviceBuffer on_gpu = {};
  };
  struct Table {
    RopeConfig config;
    int64_t columns;
    std::vector<Angles> angles;  // of shorter sequences first
  };
  // Computed at its first use: a dry run, whose sequences may be of any length, does not need it.
  static const Tensor& Host(const Table& table, const Angles& angles);

  int64_t max_seq_len_;
  std::vector<Table> tables_;
  std::vector<int> layer_indices_;
};

}  // namespace strake

#endif  // STRAKE_MODELS_ROPE_TABLES_H_
