// Exports a model's directory, or a checkpoint, for other programs.
#ifndef STRAKE_TRAIN_EXPORT_EXPORT_MODEL_H_
#define STRAKE_TRAIN_EXPORT_EXPORT_MODEL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/hf_checkpoint.h"

namespace strake {

enum class ExportFormat { kHuggingFace, kGguf };
enum class ExportDType { kF32, kF16, kBf16, kQ8_0 };  // kQ8_0 of kGguf alone

struct ExportOptions {
  std::string directory;        // with config.json and weights, or an adapter's
  std::string base_model = {};  // as FindModelFiles() takes it
  std::string out;              // the folder of a model, or a GGUF file
  ExportFormat format = ExportFormat::kHuggingFace;
  ExportDType dtype = ExportDType::kF32;
  int64_t max_file_bytes = kMaxWeightsFileBytes;  // of kHuggingFace
  // Replaces a file, or a folder that holds a model and no folders but that of its
  // chat templates. Without it they are errors.
  bool overwrite = false;
  // Of kGguf: the tokens that end a generated text, and the name of the way to cut words where the
  // table of names lacks it.
  std::vector<int32_t> end_tokens = {};
  std::string pre_tokenizer = {};
  // Called now and then with the share of the weights that was written, from 0 to 1.
  std::function<void(double)> on_progress = {};
};

struct ExportedModel {
  int64_t num_parameters = 0;
  int64_t num_files = 0;
  int64_t num_bytes = 0;
  std::vector<std::string> notices = {};  // what the export changed or left out
};

// Reads the weights tensor by tensor, so memory is bounded by the largest parameter. An adapter is
// merged into its base. `out` appears when it is whole (UnfinishedPath).
//
//   kHuggingFace   what transformers opens: config.json, weights of the dtype, and the files that a
//                  checkpoint carries (train/run/carried_files.h)
//   kGguf          one file with the weights (models/gguf/gguf_weights.h), the model's keys, the
//                  tokenizer, if there is one, and the template of conversations
//
// Returns an error, naming path, key or tensor, for a directory that LoadWeights() refuses, a model
// or tokenizer that the format has no form for, and `out` where it exists.
absl::StatusOr<ExportedModel> ExportModel(const ExportOptions& options);

}  // namespace strake

#endif  // STRAKE_TRAIN_EXPORT_EXPORT_MODEL_H_
