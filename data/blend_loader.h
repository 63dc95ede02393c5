// BlendLoader: training samples of one or several sources, mixed by a Blend.
//
//   global sample n = sample k of the loader of source s, (s, k) = blend.At(n)
//
// Each source is shuffled and repeated by its own loader, so its sample k depends on no other
// source. As with a DataLoader the global sample number is the position of a run.
#ifndef STRAKE_DATA_BLEND_LOADER_H_
#define STRAKE_DATA_BLEND_LOADER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "core/tensor/sequence_chunks.h"
#include "core/tensor/tensor.h"
#include "data/blend.h"
#include "data/data_loader.h"
#include "data/token_batch.h"

namespace strake {

class BlendLoader {
 public:
  // Samples of one source: exactly the loader's.
  explicit BlendLoader(DataLoader loader);
  // CHECKs that there is a loader for each source, all of one sequence length.
  BlendLoader(Blend blend, std::vector<DataLoader> loaders);

  const Blend& blend() const { return blend_; }
  const DataLoader& loader(int source) const { return loaders_[source]; }
  int num_sources() const { return blend_.num_sources(); }
  // The samples of an epoch of each source, in all.
  int64_t num_samples() const;
  // The passes over a source that the first `num_samples` global samples make.
  double Epochs(int source, int64_t num_samples) const;

  // Whether samples of any source have documents; Load() then needs positions.
  bool has_documents() const;

  // Load global samples [first_sample, first_sample + count), as DataLoader's do.
  absl::Status Load(int64_t first_sample, int64_t count, TokenBatch* batch,
                    const SequenceChunks& chunks = {}) const;
  absl::Status Load(int64_t first_sample, int64_t count, Tensor tokens, Tensor targets) const;

  // The number of targets of these global samples, whole.
  int64_t NumTargets(int64_t first_sample, int64_t count) const;

 private:
  Blend blend_;
  std::vector<DataLoader> loaders_;
};

}  // namespace strake

#endif  // STRAKE_DATA_BLEND_LOADER_H_
