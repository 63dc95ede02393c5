#include "train/export/export_model.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/durable_file.h"
#include "core/base/name_error.h"
#include "core/base/path_kind.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"
#include "data/chat/chat_template.h"
#include "data/tokenizer/formats/gguf_vocabulary.h"
#include "data/tokenizer/formats/open_tokenizer.h"
#include "data/tokenizer/tokenizer_spec.h"
#include "glog/logging.h"
#include "models/checkpoint/model_files.h"
#include "models/families/families.h"
#include "models/gguf/gguf_metadata.h"
#include "models/gguf/gguf_model_keys.h"
#include "models/gguf/gguf_weights.h"
#include "models/gguf/gguf_writer.h"
#include "models/model_config.h"
#include "models/transformer.h"
#include "train/export/gguf_tokenizer_keys.h"
#include "train/export/unfinished_path.h"
#include "train/run/carried_files.h"

namespace strake {
namespace {

namespace fs = std::filesystem;

// What the formats call a dtype.
struct DTypeRow {
  ExportDType dtype;
  const char* torch_name;
  SafetensorsDType in_safetensors;
  GgufDType in_gguf;
  int64_t gguf_file_type;  // "general.file_type"
};
constexpr DTypeRow kDTypes[] = {
    {ExportDType::kF32, "float32", SafetensorsDType::kF32, GgufDType::kF32, 0},
    {ExportDType::kF16, "float16", SafetensorsDType::kF16, GgufDType::kF16, 1},
    {ExportDType::kBf16, "bfloat16", SafetensorsDType::kBf16, GgufDType::kBf16, 32},
    {ExportDType::kQ8_0, nullptr, SafetensorsDType::kF32, GgufDType::kQ8_0, 7}};

const DTypeRow& RowOf(ExportDType dtype) {
  for (const DTypeRow& row : kDTypes) {
    if (row.dtype == dtype) return row;
  }
  LOG(FATAL) << "[export] unknown dtype " << static_cast<int>(dtype);
}

// The model of a directory, and its weights parameter by parameter.
class Source {
 public:
  static absl::StatusOr<std::unique_ptr<Source>> Open(const ExportOptions& options,
                                                      std::vector<std::string>* notices) {
    std::unique_ptr<Source> source(new Source(options));
    STRAKE_ASSIGN_OR_RETURN(source->files_,
                            FindModelFiles(options.directory, options.base_model, notices));
    STRAKE_ASSIGN_OR_RETURN(source->config_, ReadModelConfig(source->files_, notices));
    const Transformer model(source->config_, /*max_seq_len=*/1, &source->whole_);
    source->whole_.AllocateDryRun(DType::kF32);
    STRAKE_ASSIGN_OR_RETURN(ModelReader reader,
                            ModelReader::Open(source->files_, source->config_, source->whole_));
    source->reader_ = std::move(reader);
    return source;
  }

  const ModelFiles& files() const { return files_; }
  const ModelConfig& config() const { return config_; }
  const ParameterArena& whole() const { return whole_; }

  // The values of a parameter, until the next call.
  absl::StatusOr<Tensor> Fetch(int parameter) {
    const ParameterRecord& record = whole_.records()[parameter];
    values_.resize(std::max<size_t>(values_.size(), record.num_elements()));
    const Tensor tensor(values_.data(), DType::kF32, {record.num_elements()});
    STRAKE_RETURN_IF_ERROR(reader_->Read(parameter, tensor));
    // A copy of the first parameter may come last.
    share_ = std::max(share_, double(record.end()) / double(whole_.num_elements()));
    if (options_.on_progress) options_.on_progress(share_);
    return tensor;
  }

 private:
  explicit Source(const ExportOptions& options) : options_(options) {}

  const ExportOptions& options_;
  ModelFiles files_;
  ModelConfig config_;
  ParameterArena whole_;  // without memory
  std::optional<ModelReader> reader_;
  std::vector<float> values_;
  double share_ = 0;  // of the weights that were read
};

// --- Where it goes. ---

absl::Status IsInTheWay(const std::string& out, absl::string_view why) {
  return absl::AlreadyExistsError(absl::StrCat(out, ": ", why));
}

// Whether a folder is a model's and nothing else's.
absl::Status CheckIsReplaceable(const std::string& out) {
  bool has_config = false;
  std::error_code error;
  for (fs::directory_iterator entry(out, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->is_directory(error) && entry->path().filename() != kChatTemplatesFolder) {
      return IsInTheWay(out, absl::StrCat("it holds folders other than ", kChatTemplatesFolder,
                                          ", so it is not replaced; remove it, or choose another "
                                          "name"));
    }
    if (entry->path().filename() == "manifest.json") {
      return IsInTheWay(out,
                        "it is a run's checkpoint, so it is not replaced; choose another name");
    }
    has_config |= entry->path().filename() == "config.json";
  }
  if (error) return SystemError("list", out, error.value());
  if (has_config) return absl::OkStatus();
  return IsInTheWay(out,
                    "it holds no model, so it is not replaced; remove it, or choose another "
                    "name");
}

absl::Status CheckOut(const ExportOptions& options) {
  if (options.out.empty()) return absl::InvalidArgumentError("there is no name for the export");
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(options.out));
  if (kind == PathKind::kNothing) return absl::OkStatus();
  std::error_code error;
  const bool is_base =
      !options.base_model.empty() && fs::equivalent(options.out, options.base_model, error);
  if (is_base || fs::equivalent(options.out, options.directory, error)) {
    return IsInTheWay(options.out, "it is the model itself; choose another name");
  }
  const bool folder = options.format == ExportFormat::kHuggingFace;
  if (kind != (folder ? PathKind::kDirectory : PathKind::kFile)) {
    return IsInTheWay(options.out, folder ? "it is no folder; choose another name"
                                          : "it is no file; choose another name");
  }
  if (!options.overwrite) {
    return IsInTheWay(options.out,
                      "it exists; remove it, choose another name, or have it "
                      "overwritten");
  }
  return folder ? CheckIsReplaceable(options.out) : absl::OkStatus();
}

// --- Hugging Face. ---

// What is carried over: the adapter's own files count before those of its base.
absl::StatusOr<CarriedFiles> ReadModelFiles(const ModelFiles& model,
                                            std::vector<std::string>* notices) {
  CarriedFiles files;
  for (const std::string& directory : {model.adapter, model.base}) {
    if (directory.empty()) continue;
    STRAKE_ASSIGN_OR_RETURN(CarriedFiles more, ReadCarriedFiles(directory, notices));
    files.merge(more);
  }
  return files;
}

absl::Status ExportHuggingFace(const ExportOptions& options, Source& source,
                               const std::string& folder, ExportedModel* exported) {
  const DTypeRow& dtype = RowOf(options.dtype);
  CHECK(dtype.torch_name != nullptr) << "[export] safetensors have no such dtype";
  STRAKE_ASSIGN_OR_RETURN(CarriedFiles files, ReadModelFiles(source.files(), &exported->notices));
  files["config.json"] = ToHfConfig(source.config(), dtype.torch_name);
  STRAKE_ASSIGN_OR_RETURN(
      const auto weights,
      SaveWeights(
          folder, source.whole(), dtype.in_safetensors,
          [&](int parameter, int) { return source.Fetch(parameter); }, options.max_file_bytes));
  for (const auto& [name, parts] : weights) {
    ++exported->num_files;
    for (const FilePart& part : parts) exported->num_bytes += part.num_bytes;
  }
  STRAKE_RETURN_IF_ERROR(MakeFoldersOf(files, folder));
  for (const auto& [name, text] : files) {
    STRAKE_RETURN_IF_ERROR(WriteFileDurably(absl::StrCat(folder, "/", name), text));
    ++exported->num_files;
    exported->num_bytes += static_cast<int64_t>(text.size());
  }
  return absl::OkStatus();
}

// --- GGUF. ---

// The first of the model's folders that a test holds for; the base where it holds for none.
std::string FolderThat(const ModelFiles& files, absl::FunctionRef<bool(const std::string&)> holds) {
  return !files.adapter.empty() && holds(files.adapter) ? files.adapter : files.base;
}

absl::Status AddChatTemplate(const ModelFiles& files, GgufMetadata* metadata,
                             std::vector<std::string>* notices) {
  const std::string folder = FolderThat(files, [](const std::string& each) {
    const auto own = ReadChatTemplate(each);
    return !own.ok() || own->has_value();
  });
  STRAKE_ASSIGN_OR_RETURN(const auto chat_template, ReadChatTemplate(folder));
  if (chat_template.has_value()) {
    metadata->AddString("tokenizer.chat_template", *chat_template);
  } else {
    notices->push_back(absl::StrCat(folder,
                                    " holds no chat template, or several and none called "
                                    "\"default\"; the export has none"));
  }
  return absl::OkStatus();
}

absl::Status AddTokenizer(const ExportOptions& options, const ModelFiles& files, int64_t vocab_size,
                          GgufMetadata* metadata, std::vector<std::string>* notices) {
  const std::string folder = FolderThat(files, HoldsTokenizer);
  if (!HoldsTokenizer(folder)) {
    notices->push_back(absl::StrCat(folder, " holds no tokenizer, nor does the export"));
    AddNoGgufTokenizer(metadata);
    return absl::OkStatus();
  }
  STRAKE_ASSIGN_OR_RETURN(const TokenizerSpec spec, ReadTokenizerSpec(folder, {}));
  STRAKE_RETURN_IF_ERROR(
      CheckTokenizerFitsModel(folder, static_cast<int64_t>(spec.tokens.size()), vocab_size));
  STRAKE_ASSIGN_OR_RETURN(
      const auto vocabulary,
      NameError(folder, MakeGgufVocabulary(spec, vocab_size, options.pre_tokenizer)));
  AddGgufTokenizerKeys(vocabulary, options.end_tokens, metadata, notices);
  return AddChatTemplate(files, metadata, notices);
}

absl::StatusOr<GgufMetadata> MetadataOf(const ExportOptions& options, const Source& source,
                                        std::vector<std::string>* notices) {
  const ModelConfig& config = source.config();
  GgufMetadata metadata;
  STRAKE_RETURN_IF_ERROR(AddGgufModelKeys(config, &metadata, notices));
  metadata.AddString("general.type", "model");
  metadata.AddString("general.name", fs::path(options.out).stem().string());
  metadata.AddUint32("general.file_type", RowOf(options.dtype).gguf_file_type);
  metadata.AddUint32("general.quantization_version", 2);
  STRAKE_RETURN_IF_ERROR(
      AddTokenizer(options, source.files(), config.vocab_size, &metadata, notices));
  return metadata;
}

// The number of matrices and tables that are not of the dtype that was asked for, except the table
// of positions, which is always F32.
int64_t NumOtherMatrices(const std::vector<GgufTensor>& tensors, GgufDType dtype) {
  return std::count_if(tensors.begin(), tensors.end(), [&](const GgufTensor& tensor) {
    return tensor.spec.shape.size() == 2 && tensor.spec.dtype != dtype &&
           tensor.spec.dtype != GgufDType::kF32;
  });
}

absl::Status ExportGguf(const ExportOptions& options, Source& source, const std::string& path,
                        ExportedModel* exported) {
  const GgufDType dtype = RowOf(options.dtype).in_gguf;
  STRAKE_ASSIGN_OR_RETURN(const GgufMetadata metadata,
                          MetadataOf(options, source, &exported->notices));
  const std::vector<GgufTensor> tensors = GgufTensorsOf(source.config(), source.whole(), dtype);
  if (const int64_t others = NumOtherMatrices(tensors, dtype); others > 0) {
    exported->notices.push_back(absl::StrCat(
        others, " matrices and tables have rows that are no multiple of 32 numbers; they are F16"));
  }
  std::vector<GgufTensorSpec> specs;
  for (const GgufTensor& tensor : tensors) specs.push_back(tensor.spec);
  STRAKE_ASSIGN_OR_RETURN(GgufWriter writer, GgufWriter::Create(path, metadata, std::move(specs)));
  STRAKE_RETURN_IF_ERROR(WriteGgufTensors(
      tensors, source.whole(), [&](int parameter) { return source.Fetch(parameter); }, &writer));
  STRAKE_RETURN_IF_ERROR(writer.Finish());
  std::error_code error;
  exported->num_files = 1;
  exported->num_bytes = static_cast<int64_t>(fs::file_size(path, error));
  return error ? SystemError("find the size of", path, error.value()) : absl::OkStatus();
}

}  // namespace

absl::StatusOr<ExportedModel> ExportModel(const ExportOptions& options) {
  STRAKE_RETURN_IF_ERROR(CheckOut(options));
  ExportedModel exported;
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Source> source,
                          Source::Open(options, &exported.notices));
  exported.num_parameters = source->whole().num_parameters();
  const bool folder = options.format == ExportFormat::kHuggingFace;
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<UnfinishedPath> place,
                          UnfinishedPath::Open(options.out, folder ? UnfinishedPath::Kind::kFolder
                                                                   : UnfinishedPath::Kind::kFile));
  STRAKE_RETURN_IF_ERROR(folder ? ExportHuggingFace(options, *source, place->path(), &exported)
                                : ExportGguf(options, *source, place->path(), &exported));
  STRAKE_RETURN_IF_ERROR(place->Finish(options.overwrite));
  return exported;
}

}  // namespace strake
