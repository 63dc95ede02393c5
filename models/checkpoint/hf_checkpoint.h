// Loads and saves a parameter arena as files in Hugging Face's names and layouts.
//
// However many ranks train, the files hold one whole model. A segment of a parameter is a tensor
// there, or the slice of one that its SegmentSlice describes: columns of the parameter's last
// dimension, stored [out, in] where the segment is `transposed` and [in, out] otherwise.
// One-dimensional parameters are sliced the same way.
#ifndef STRAKE_MODELS_CHECKPOINT_HF_CHECKPOINT_H_
#define STRAKE_MODELS_CHECKPOINT_HF_CHECKPOINT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/file_part.h"
#include "core/base/work_state.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"
#include "models/checkpoint/safetensors.h"
#include "models/families/family.h"

namespace strake {

// What reading tells, with the bytes of files that this rank reads.
inline constexpr char kReadingWeights[] = "reading weights";

// Fills the arena's values (f32, f64 or bf16, to which they are rounded; on either device) from
// `directory`: model.safetensors, or the shards of model.safetensors.index.json; F64, F32, F16 or
// BF16. Reads only its own slice of each tensor; padding keeps its values. Names in the files may
// lack the optional prefix of `family`, and its buffers are ignored. The one table of a model whose
// embeddings are tied may be there under the name of either, or of both. Shards may hold more than
// the index lists. docs/hugging_face.md compares this with transformers, kind by kind.
//
// Returns an error, naming file and tensor, for a file that is missing or broken, for a tensor that
// is not where the index says, and for one that is missing, unknown or of another shape or dtype;
// where two tensors of one parameter differ, under two names or in two shards; and where
// transformers would take weights from other files too: an adapter, a distributed checkpoint. All
// of that is checked before the arena is changed.
absl::Status LoadWeights(const std::string& directory, const ModelFamily& family,
                         ParameterArena& arena, const OnWork& on_work = nullptr);

// An array over a range of the arena's index space: its values, or a moment of the optimizer.
struct ArenaArray {
  std::string suffix;  // of the tensors' names: "" for weights, ".exp_avg" for a first moment
  Tensor values;       // [end - begin], f32, f64 or bf16, on either device
  int64_t begin = 0;   // in the index space

  int64_t end() const { return begin + values.num_elements(); }
};

// The same into parts of an array over the arena's index space, in place of its values.
absl::Status LoadWeights(const std::string& directory, const ModelFamily& family,
                         const ParameterArena& arena, const std::vector<ArenaArray>& parts,
                         const OnWork& on_work = nullptr);

// Reads the same parameter by parameter, for a model that need not fit into memory.
class WeightsReader {
 public:
  // Finds and checks all tensors, as LoadWeights() does. The arena, which may be a dry run's, must
  // outlive this.
  static absl::StatusOr<WeightsReader> Open(const std::string& directory, const ModelFamily& family,
                                            const ParameterArena& arena);
  WeightsReader(WeightsReader&&) noexcept;
  WeightsReader& operator=(WeightsReader&&) noexcept;
  ~WeightsReader();

  // Reads the arena's part of a parameter into `values` [its number of elements].
  absl::Status Read(int parameter, const Tensor& values) const;

 private:
  friend absl::Status LoadWeights(const std::string& directory, const ModelFamily& family,
                                  const ParameterArena& arena, const std::vector<ArenaArray>& parts,
                                  const OnWork& on_work);
  struct Found;
  WeightsReader(const ParameterArena* arena, std::unique_ptr<const Found> found);

  const ParameterArena* arena_;
  std::unique_ptr<const Found> found_;
};

// Returns the values of a whole parameter, [its number of elements] in any shape, of one of several
// arrays, on either device. They may be freed at the next call.
using FetchParameter = absl::FunctionRef<absl::StatusOr<Tensor>(int parameter, int array)>;

// The dtype in files of values in memory: BF16 for bf16, else F32.
SafetensorsDType FileDType(DType values);

// Writes a tensor NAME + suffix for every tensor of the `whole` model, an arena that may be a dry
// run's, and every suffix: values of dtype bf16 as BF16, all others as F32. Equal contents give
// equal bytes. Fetches one parameter after the other, and of each all arrays in order. Returns the
// file's checksums; an error, naming path and reason, when the disk is full or fails, and `fetch`'s
// error. CHECKs that every tensor is whole.
absl::StatusOr<std::vector<FilePart>> SaveArrays(const std::string& path,
                                                 const ParameterArena& whole,
                                                 const std::vector<std::string>& suffixes,
                                                 DType dtype, FetchParameter fetch);

// The same for arrays of one dtype over the whole arena.
absl::Status SaveArrays(const std::string& path, const ParameterArena& arena,
                        const std::vector<ArenaArray>& arrays);

// The largest file of weights: transformers' limit.
inline constexpr int64_t kMaxWeightsFileBytes = 5'000'000'000;

// Writes the weights of the `whole` model into a directory as SaveArrays() does, with array 0 of
// `fetch`, rounded to F32, F16 or BF16: model.safetensors or, where the tensors have more than
// `max_file_bytes`, several files model-0000I-of-0000N.safetensors, and
// model.safetensors.index.json, which lists their tensors.
// Each file but the last ends where the next tensor would exceed the limit; a tensor that alone
// exceeds it has a file of its own. Returns the checksums by the names of the files.
absl::StatusOr<std::map<std::string, std::vector<FilePart>>> SaveWeights(
    const std::string& directory, const ParameterArena& whole, SafetensorsDType dtype,
    FetchParameter fetch, int64_t max_file_bytes = kMaxWeightsFileBytes);

// The dtypes that tensors of a file may have.
enum class FileDTypes { kF32, kAnyFloat };  // kAnyFloat: F64, F32, F16 and BF16

// The inverse of SaveArrays(), for the slices and ranges that the arrays hold. Several of them may
// have one suffix: parts of an array. The file must hold exactly those tensors, of one of `dtypes`;
// otherwise it returns an error and the arrays keep their values.
absl::Status LoadArrays(const std::string& path, const ParameterArena& arena,
                        const std::vector<ArenaArray>& arrays, FileDTypes dtypes = FileDTypes::kF32,
                        const OnWork& on_work = nullptr);

}  // namespace strake

#endif  // STRAKE_MODELS_CHECKPOINT_HF_CHECKPOINT_H_
