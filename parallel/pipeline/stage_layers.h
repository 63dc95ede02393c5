// How a model's layers are spread over the parts of a pipeline (parallel/pipeline/schedule.h).
#ifndef STRAKE_PARALLEL_PIPELINE_STAGE_LAYERS_H_
#define STRAKE_PARALLEL_PIPELINE_STAGE_LAYERS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace strake {

// What the parts of a model cost in a step, in any unit.
struct LayerCosts {
  std::vector<double> layers;
  double first = 0;  // of what comes before the first layer: the embedding
  double last = 0;   // of what comes after the last one: norm, head and loss
};

// The numbers of consecutive layers in the stages * chunks parts of the model, in its order; part i
// is a chunk of stage i % stages. The dearest stage costs as little as it can; of the spreads for
// which that holds, this is the most even one. With several chunks all layers count as their mean,
// and a stage's are split evenly. InvalidArgument, with the numbers, where there are fewer layers
// than parts.
absl::StatusOr<std::vector<int64_t>> SpreadLayers(const LayerCosts& costs, int stages, int chunks);

// InvalidArgument, with the numbers, where the counts are not as many as stages * chunks, are not
// all positive, or do not add up to `num_layers`.
absl::Status CheckStageLayers(absl::Span<const int64_t> counts, int64_t num_layers, int stages,
                              int chunks);

// The layers [begin, end) of one part.
struct LayerRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const LayerRange&) const = default;
};
LayerRange LayersOfPart(absl::Span<const int64_t> counts, int part);

}  // namespace strake

#endif  // STRAKE_PARALLEL_PIPELINE_STAGE_LAYERS_H_
