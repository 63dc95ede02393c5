#include "parallel/tensor/gather_parameter.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "core/base/dtype.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {

// A segment's matrix: rows [row_begin, row_begin + rows) of a whole tensor, and likewise columns;
// `data` points to its first element, within a parameter.
struct Block {
  int64_t row_begin, rows, column_begin, columns;
  char* data;
  int64_t stride;  // elements
};

Block BlockOf(const Tensor& values, const ParameterSegment& segment, int64_t first_column) {
  const SegmentSlice& slice = segment.slice;
  return {slice.row_begin,
          slice.num_rows,
          slice.column_begin,
          segment.columns,
          static_cast<char*>(values.raw()) + first_column * DTypeSize(values.dtype()),
          values.dim(-1)};
}

// Copies the elements that both blocks hold. Returns their number.
int64_t CopyOverlap(const Block& from, const Block& to, size_t element_bytes) {
  const int64_t row_begin = std::max(from.row_begin, to.row_begin);
  const int64_t row_end = std::min(from.row_begin + from.rows, to.row_begin + to.rows);
  const int64_t begin = std::max(from.column_begin, to.column_begin);
  const int64_t end = std::min(from.column_begin + from.columns, to.column_begin + to.columns);
  if (row_begin >= row_end || begin >= end) return 0;
  const auto at = [&](const Block& block, int64_t row) {
    const int64_t index = (row - block.row_begin) * block.stride + begin - block.column_begin;
    return block.data + index * element_bytes;
  };
  for (int64_t row = row_begin; row < row_end; ++row) {
    std::memcpy(at(to, row), at(from, row), (end - begin) * element_bytes);
  }
  return (row_end - row_begin) * (end - begin);
}

// Copies the slices that a rank owns, from its `shard` [part.shape] on either device, to their
// places in `result` [whole.shape] on the host. Returns the number of elements.
absl::StatusOr<int64_t> Place(const Tensor& shard, const ParameterRecord& part,
                              const ParameterRecord& whole, const Tensor& result) {
  STRAKE_ASSIGN_OR_RETURN(const HostCopy host, HostCopy::Of(shard));
  int64_t placed = 0, from_column = 0;
  for (const ParameterSegment& from : part.segments) {
    const Block from_block = BlockOf(host, from, from_column);
    from_column += from.columns;
    if (!from.slice.owner) continue;
    int64_t to_column = 0;
    for (const ParameterSegment& to : whole.segments) {
      if (from.name == to.name) {
        placed += CopyOverlap(from_block, BlockOf(result, to, to_column), DTypeSize(shard.dtype()));
      }
      to_column += to.columns;
    }
  }
  return placed;
}

// Returns true if the rank that holds this part owns any of it.
bool OwnsAny(const ParameterRecord& part) {
  return std::any_of(part.segments.begin(), part.segments.end(), [](const auto& segment) {
    return segment.slice.owner && segment.slice.num_rows * segment.columns > 0;
  });
}

int64_t NumWholeElements(const ParameterRecord& whole) {
  int64_t n = 0;
  for (const ParameterSegment& segment : whole.segments) {
    n += segment.slice.num_rows * segment.columns;
  }
  return n;
}

absl::StatusOr<Tensor> AllocateTensor(Device device, DType dtype, const Shape& shape,
                                      DeviceMemory* memory) {
  *memory = DeviceMemory();  // frees it before the new allocation
  STRAKE_ASSIGN_OR_RETURN(*memory,
                          DeviceMemory::Allocate(device, NumElements(shape) * DTypeSize(dtype)));
  return Tensor(memory->data(), dtype, shape, device);
}

// The elements of the parameter within `range`, from the parameter's first.
ShardRange Overlap(const ParameterRecord& record, const ShardRange& range) {
  const int64_t n = record.num_elements();
  const int64_t begin = std::clamp<int64_t>(range.begin - record.offset, 0, n);
  return {begin, std::max(begin, std::min(range.end - record.offset, n))};
}

// On the group's rank 0: gathers its part [part.shape] of the parameter, in `values` or in
// `memory`.
absl::StatusOr<Tensor> GatherRanges(Communicator& group, const ParameterRecord& part,
                                    absl::Span<const ShardRange> ranges, const Tensor& values,
                                    DeviceMemory* memory) {
  const ShardRange all{0, part.end()};
  const ShardRange& range = ranges.empty() ? all : ranges[group.rank()];
  const ShardRange own = Overlap(part, range);
  const int64_t begin = part.offset - range.begin;
  const auto own_values = [&] { return values.Rows(begin + own.begin, begin + own.end); };
  if (group.rank() > 0) {
    if (ranges.empty() || own.size() == 0) return Tensor();
    STRAKE_RETURN_IF_ERROR(group.Send(own_values(), 0).Wait().status());
    return Tensor();
  }
  if (own.size() == part.num_elements()) return own_values().Reshape(part.shape());
  STRAKE_ASSIGN_OR_RETURN(const Tensor shard, AllocateTensor(values.device(), values.dtype(),
                                                             {part.num_elements()}, memory));
  if (own.size() > 0) {
    STRAKE_RETURN_IF_ERROR(CopyBlocking(own_values(), shard.Rows(own.begin, own.end)));
  }
  int64_t received = own.size();
  for (int rank = 1; rank < group.size(); ++rank) {
    const ShardRange theirs = Overlap(part, ranges[rank]);
    if (theirs.size() == 0) continue;
    STRAKE_RETURN_IF_ERROR(group.Recv(shard.Rows(theirs.begin, theirs.end), rank).Wait().status());
    received += theirs.size();
  }
  CHECK_EQ(received, part.num_elements()) << "[gather_parameter] the ranges' elements of "
                                          << part.name() << " " << ShapeString(part.shape());
  return shard.Reshape(part.shape());
}

// On tp rank 0: gathers the whole parameter, in `memory` on the host. `shard` is the rank's own
// part; `shard_memory` has room for it or another rank's.
absl::StatusOr<Tensor> GatherSlices(Communicator& tp,
                                    absl::Span<const ParameterRecord* const> parts,
                                    const ParameterRecord& whole, const Tensor& shard,
                                    DeviceMemory* shard_memory, DeviceMemory* memory) {
  if (tp.rank() > 0) {
    if (!OwnsAny(*parts[tp.rank()])) return Tensor();
    STRAKE_RETURN_IF_ERROR(tp.Send(shard, 0).Wait().status());
    return Tensor();
  }
  STRAKE_ASSIGN_OR_RETURN(const Tensor result,
                          AllocateTensor(Device::kCpu, shard.dtype(), whole.shape(), memory));
  STRAKE_ASSIGN_OR_RETURN(int64_t placed, Place(shard, *parts[0], whole, result));
  Tensor received;
  for (int rank = 1; rank < tp.size(); ++rank) {
    const ParameterRecord& part = *parts[rank];
    CHECK(part.shape() == shard.shape())
        << "[gather_parameter] " << part.name() << " of rank " << rank << " "
        << ShapeString(part.shape()) << ", of rank 0 " << shard.ToString();
    if (!OwnsAny(part)) continue;
    if (!received.defined()) {
      STRAKE_ASSIGN_OR_RETURN(
          received, AllocateTensor(shard.device(), shard.dtype(), shard.shape(), shard_memory));
    }
    STRAKE_RETURN_IF_ERROR(tp.Recv(received, rank).Wait().status());
    STRAKE_ASSIGN_OR_RETURN(const int64_t added, Place(received, part, whole, result));
    placed += added;
  }
  CHECK_EQ(placed, NumWholeElements(whole))
      << "[gather_parameter] the slices of " << tp.size() << " ranks of " << whole.name() << " "
      << ShapeString(whole.shape());
  return result;
}

}  // namespace

namespace {

// Returns it on the first rank of the stage that holds the parameter.
absl::StatusOr<Tensor> GatherOnStage(const Mesh& mesh,
                                     absl::Span<const ParameterRecord* const> parts,
                                     const ParameterRecord& whole,
                                     absl::Span<const ShardRange> ranges, const Tensor& values,
                                     DeviceMemory* memory) {
  Communicator& group = mesh.gradient_group();
  Communicator& tp = mesh.communicator(MeshAxis::kTp);
  CHECK(parts.size() == tp.size() && (ranges.empty() || ranges.size() == group.size()))
      << "[gather_parameter] " << parts.size() << " parts and " << ranges.size() << " ranges on "
      << mesh.sizes().ToString();
  DeviceMemory shard_memory;
  STRAKE_ASSIGN_OR_RETURN(const Tensor shard,
                          GatherRanges(group, *parts[tp.rank()], ranges, values, &shard_memory));
  if (group.rank() > 0) return Tensor();
  if (tp.size() > 1) return GatherSlices(tp, parts, whole, shard, &shard_memory, memory);
  CHECK(shard.shape() == whole.shape())
      << "[gather_parameter] " << whole.name() << " " << shard.ToString() << ", whole "
      << ShapeString(whole.shape());
  *memory = std::move(shard_memory);
  return shard;
}

}  // namespace

absl::StatusOr<Tensor> GatherParameter(const Mesh& mesh, int stage,
                                       absl::Span<const ParameterRecord* const> parts,
                                       const ParameterRecord& whole,
                                       absl::Span<const ShardRange> ranges, const Tensor& values,
                                       DeviceMemory* memory) {
  Communicator& pp = mesh.communicator(MeshAxis::kPp);
  CHECK(0 <= stage && stage < pp.size())
      << "[gather_parameter] stage " << stage << " of " << mesh.sizes().ToString();
  for (const MeshAxis axis : kMeshAxes) {
    STRAKE_RETURN_IF_ERROR(mesh.communicator(axis).Barrier());
  }
  if (pp.rank() == stage) {
    STRAKE_ASSIGN_OR_RETURN(const Tensor gathered,
                            GatherOnStage(mesh, parts, whole, ranges, values, memory));
    if (stage == 0 || !gathered.defined()) return gathered;
    STRAKE_RETURN_IF_ERROR(pp.Send(gathered, 0).Wait().status());
    return Tensor();
  }
  if (mesh.rank() != 0) return Tensor();
  const Device device = mesh.sizes().tp > 1 ? Device::kCpu : values.device();
  STRAKE_ASSIGN_OR_RETURN(const Tensor gathered,
                          AllocateTensor(device, values.dtype(), whole.shape(), memory));
  return pp.Recv(gathered, stage).Wait();
}

}  // namespace strake
