#include "models/checkpoint/model_files.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <utility>

#include "Eigen/Core"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/base/crc32c.h"
#include "core/base/name_error.h"
#include "core/base/path_kind.h"
#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "glog/logging.h"
#include "models/checkpoint/adapter_config.h"
#include "models/checkpoint/hf_slice.h"
#include "models/checkpoint/safetensors.h"
#include "models/families/families.h"
#include "models/lora_modules.h"

namespace strake {
namespace {

// --- Directories. ---

absl::StatusOr<bool> Holds(const std::string& directory, absl::string_view name) {
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(absl::StrCat(directory, "/", name)));
  return kind != PathKind::kNothing;
}

absl::Status CheckNoWeightsBeside(const std::string& directory) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    STRAKE_ASSIGN_OR_RETURN(const bool there, Holds(directory, name));
    if (!there) continue;
    return absl::InvalidArgumentError(absl::StrCat(directory, ": holds ", kAdapterConfigFile,
                                                   ", an adapter's, and ", name,
                                                   ", a model's; leave one of them there"));
  }
  return absl::OkStatus();
}

absl::Status CheckBase(const std::string& base, const std::string& adapter) {
  const std::string of = absl::StrCat(adapter, "/", kAdapterConfigFile, ": the adapter's base ");
  STRAKE_ASSIGN_OR_RETURN(const bool is_adapter, Holds(base, kAdapterConfigFile));
  if (is_adapter) {
    return absl::InvalidArgumentError(
        absl::StrCat(of, base, " is an adapter itself; merge that into its own base by an export"));
  }
  STRAKE_ASSIGN_OR_RETURN(const bool there, Holds(base, "config.json"));
  if (there) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat(of, base, " is not there, or holds no config.json; name the base's directory"));
}

// --- Tensors. ---

constexpr char kPrefix[] = "base_model.model.";
constexpr char kWeight[] = ".weight";
constexpr char kA[] = ".lora_A.weight", kB[] = ".lora_B.weight";

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// The tensors of one module.
struct Factors {
  const SafetensorsEntry* a;  // [rank, in]
  const SafetensorsEntry* b;  // [out, rank]
};

// A part of a parameter, and what is added to it.
struct AdaptedSlice {
  HfSlice slice;
  Factors factors;
};

// The linear layers with adapters.
class Modules {
 public:
  Modules(const ModelConfig& config, const LoraConfig& lora) : lora_(lora) {
    for (std::string& name : AdapterModules(config)) linear_.insert(std::move(name));
  }

  bool Contain(absl::string_view module) const {
    const size_t dot = module.rfind('.');
    const absl::string_view last = dot == module.npos ? module : module.substr(dot + 1);
    return linear_.contains(std::string(last)) && HasAdapter(lora_, module);
  }

 private:
  const LoraConfig& lora_;
  std::set<std::string> linear_;
};

// Finds tensors in the file of an adapter, and remembers which.
class Finder {
 public:
  Finder(const SafetensorsFile& file, int64_t rank) : file_(file), rank_(rank) {}

  absl::StatusOr<Factors> Find(absl::string_view module, const HfSlice& slice) {
    const Shape& shape = slice.file_shape;
    const int64_t in = shape[slice.transposed ? 1 : 0], out = shape[slice.transposed ? 0 : 1];
    Factors factors;
    STRAKE_ASSIGN_OR_RETURN(factors.a, FindTensor(absl::StrCat(kPrefix, module, kA), {rank_, in}));
    STRAKE_ASSIGN_OR_RETURN(factors.b, FindTensor(absl::StrCat(kPrefix, module, kB), {out, rank_}));
    return factors;
  }

  // A module of other ranks, which find its tensors.
  void Skip(absl::string_view module) {
    for (const char* factor : {kA, kB}) found_.insert(absl::StrCat(kPrefix, module, factor));
  }

  // The error of a tensor that is of no module.
  absl::Status CheckAllFound() const {
    for (const SafetensorsEntry& entry : file_.entries()) {
      if (!found_.contains(entry.name))
        return Bad(entry.name, "is not one of the model's adapters");
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Bad(absl::string_view tensor, absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(file_.path(), ": tensor \"", tensor, "\" ", what,
                                                   "; is this an adapter of another model?"));
  }

  absl::StatusOr<const SafetensorsEntry*> FindTensor(const std::string& name, const Shape& shape) {
    const SafetensorsEntry* entry = file_.Find(name);
    if (entry == nullptr) return Bad(name, "is missing");
    if (entry->shape != shape) {
      return Bad(name, absl::StrCat("has shape ", ShapeString(entry->shape),
                                    ", but the model needs ", ShapeString(shape)));
    }
    // Reads nothing, but checks the dtype.
    STRAKE_RETURN_IF_ERROR(file_.ReadF32(*entry, 0, 0, nullptr));
    found_.insert(name);
    return entry;
  }

  const SafetensorsFile& file_;
  const int64_t rank_;
  std::set<std::string> found_;
};

absl::StatusOr<Matrix> ReadRows(const SafetensorsFile& file, const SafetensorsEntry& entry,
                                int64_t begin, int64_t count) {
  Matrix matrix(count, entry.shape[1]);
  STRAKE_RETURN_IF_ERROR(file.ReadF32(entry, begin * entry.shape[1], matrix.size(), matrix.data()));
  return matrix;
}

// values [rows, columns] of the slice += scale * A^T B^T, for its rows of A^T and columns of B^T.
absl::Status AddProduct(const SafetensorsFile& file, const AdaptedSlice& part, float scale,
                        float* values) {
  const HfSlice& slice = part.slice;
  STRAKE_ASSIGN_OR_RETURN(Matrix a, ReadRows(file, *part.factors.a, 0, part.factors.a->shape[0]));
  STRAKE_ASSIGN_OR_RETURN(const Matrix b,
                          ReadRows(file, *part.factors.b, slice.column_begin, slice.columns));
  a *= scale;
  Eigen::Map<Matrix, 0, Eigen::OuterStride<>> block(values + slice.position, slice.rows,
                                                    slice.columns, {slice.stride});
  block.noalias() += a.middleCols(slice.row_begin, slice.rows).transpose() * b.transpose();
  return absl::OkStatus();
}

// to = from, rounded.
void Convert(const std::vector<float>& from, const Tensor& to) {
  const auto convert = [&]<typename T>(T* values) {
    std::transform(from.begin(), from.begin() + to.num_elements(), values,
                   [](float value) { return static_cast<T>(value); });
  };
  switch (to.dtype()) {
    case DType::kF32:
      return convert(to.data<float>());
    case DType::kF64:
      return convert(to.data<double>());
    case DType::kBf16:
      return convert(to.data<Bf16>());
    default:
      LOG(FATAL) << "[model_files] no weights in " << to.ToString();
  }
}

// Tells that all parameters before this one are read, of an arena's.
void TellOfReading(const ParameterRecord& record, const ParameterArena& arena,
                   const OnWork& on_work) {
  if (on_work == nullptr) return;
  on_work({.what = kReadingWeights,
           .done = static_cast<double>(record.offset),
           .total = static_cast<double>(arena.num_elements())});
}

int64_t LargestParameter(const ParameterArena& arena) {
  int64_t largest = 0;
  for (const ParameterRecord& record : arena.records()) {
    largest = std::max(largest, record.num_elements());
  }
  return largest;
}

}  // namespace

std::string ModelFiles::FolderWith(const std::string& name) const {
  if (adapter.empty()) return base;
  const absl::StatusOr<bool> there = Holds(adapter, name);
  return there.ok() && *there ? adapter : base;
}

absl::StatusOr<bool> HoldsAdapter(const std::string& directory) {
  return Holds(directory, kAdapterConfigFile);
}

absl::StatusOr<ModelFiles> FindModelFiles(const std::string& directory, const std::string& base,
                                          std::vector<std::string>* notices) {
  STRAKE_ASSIGN_OR_RETURN(const bool is_adapter, HoldsAdapter(directory));
  if (!is_adapter) {
    if (base.empty()) return ModelFiles{.base = directory};
    return absl::InvalidArgumentError(absl::StrCat(directory, ": is no adapter (it holds no ",
                                                   kAdapterConfigFile, "), so it takes no base ",
                                                   base));
  }
  STRAKE_RETURN_IF_ERROR(CheckNoWeightsBeside(directory));
  STRAKE_ASSIGN_OR_RETURN(AdapterConfig config, ReadAdapterConfig(directory, notices));
  ModelFiles files = {.base = base.empty() ? config.base_model : base,
                      .adapter = directory,
                      .lora = std::move(config.lora)};
  if (files.base.empty()) {
    return absl::NotFoundError(
        absl::StrCat(directory, "/", kAdapterConfigFile,
                     ": it does not name the base; name the base's directory"));
  }
  STRAKE_RETURN_IF_ERROR(CheckBase(files.base, directory));
  return files;
}

absl::StatusOr<ModelConfig> ReadModelConfig(const ModelFiles& files,
                                            std::vector<std::string>* notices) {
  STRAKE_ASSIGN_OR_RETURN(const ModelConfig config,
                          ReadHfConfig(files.base + "/config.json", notices));
  ModelConfig adapted = config;
  adapted.lora = files.lora;
  STRAKE_RETURN_IF_ERROR(
      NameError(absl::StrCat(files.adapter, "/", kAdapterConfigFile), CheckLora(adapted)));
  return config;
}

struct AdapterWeights::Found {
  SafetensorsFile file;
  float scale;
  std::vector<std::vector<AdaptedSlice>> slices = {};  // by parameter
};

AdapterWeights::AdapterWeights(std::unique_ptr<const Found> found) : found_(std::move(found)) {}
AdapterWeights::AdapterWeights(AdapterWeights&&) noexcept = default;
AdapterWeights& AdapterWeights::operator=(AdapterWeights&&) noexcept = default;
AdapterWeights::~AdapterWeights() = default;

absl::StatusOr<AdapterWeights> AdapterWeights::Open(const ModelFiles& files,
                                                    const ModelConfig& config,
                                                    const ParameterArena& arena) {
  const LoraConfig& lora = files.lora;
  STRAKE_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(absl::StrCat(
                                                    files.adapter, "/", kAdapterWeightsFile)));
  auto found = std::make_unique<Found>(
      Found{.file = std::move(file), .scale = static_cast<float>(lora.alpha / lora.rank)});
  const Modules modules(config, lora);
  Finder finder(found->file, lora.rank);
  for (const ParameterRecord& record : arena.records()) {
    std::vector<AdaptedSlice>& slices = found->slices.emplace_back();
    for (HfSlice& slice : HfSlicesOf(record)) {
      absl::string_view module = slice.name;
      if (!absl::ConsumeSuffix(&module, kWeight) || !modules.Contain(module)) continue;
      STRAKE_ASSIGN_OR_RETURN(const Factors factors, finder.Find(module, slice));
      slices.push_back({std::move(slice), factors});
    }
  }
  for (const std::string& name : arena.elsewhere()) {
    absl::string_view module = name;
    if (absl::ConsumeSuffix(&module, kWeight) && modules.Contain(module)) finder.Skip(module);
  }
  STRAKE_RETURN_IF_ERROR(finder.CheckAllFound());
  return AdapterWeights(std::move(found));
}

bool AdapterWeights::Changes(int parameter) const { return !found_->slices[parameter].empty(); }

absl::Status AdapterWeights::AddTo(int parameter, const Tensor& values) const {
  for (const AdaptedSlice& part : found_->slices[parameter]) {
    STRAKE_RETURN_IF_ERROR(AddProduct(found_->file, part, found_->scale, values.data<float>()));
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelReader> ModelReader::Open(const ModelFiles& files, const ModelConfig& config,
                                              const ParameterArena& arena) {
  STRAKE_ASSIGN_OR_RETURN(WeightsReader base,
                          WeightsReader::Open(files.base, *config.family, arena));
  ModelReader reader(std::move(base));
  if (files.adapter.empty()) return reader;
  STRAKE_ASSIGN_OR_RETURN(reader.adapter_, AdapterWeights::Open(files, config, arena));
  return reader;
}

absl::Status ModelReader::Read(int parameter, const Tensor& values) const {
  STRAKE_RETURN_IF_ERROR(base_.Read(parameter, values));
  return HasAdapter(parameter) ? adapter_->AddTo(parameter, values) : absl::OkStatus();
}

absl::Status LoadModel(const ModelFiles& files, const ModelConfig& config, ParameterArena& arena,
                       const OnWork& on_work) {
  if (files.adapter.empty()) return LoadWeights(files.base, *config.family, arena, on_work);
  STRAKE_ASSIGN_OR_RETURN(const ModelReader reader, ModelReader::Open(files, config, arena));
  std::vector<float> buffer(LargestParameter(arena));
  for (int i = 0; i < static_cast<int>(arena.records().size()); ++i) {
    const ParameterRecord& record = arena.records()[i];
    TellOfReading(record, arena, on_work);
    std::fill_n(buffer.begin(), record.num_elements(), 0.0F);  // padding
    STRAKE_RETURN_IF_ERROR(
        reader.Read(i, Tensor(buffer.data(), DType::kF32, {record.num_elements()})));
    STRAKE_ASSIGN_OR_RETURN(const HostCopy host, HostCopy::Of(record.parameter.value));
    Convert(buffer, host);
    STRAKE_RETURN_IF_ERROR(host.WriteBack());
  }
  return absl::OkStatus();
}

absl::Status LoadAdapter(const std::string& directory, const ParameterArena& adapters,
                         const std::vector<ArenaArray>& parts, const OnWork& on_work) {
  return LoadArrays(absl::StrCat(directory, "/", kAdapterWeightsFile), adapters, parts,
                    FileDTypes::kAnyFloat, on_work);
}

absl::StatusOr<std::string> WeightsChecksum(const std::string& directory, const ModelFamily& family,
                                            const ParameterArena& arena, const OnWork& on_work) {
  STRAKE_ASSIGN_OR_RETURN(const WeightsReader reader,
                          WeightsReader::Open(directory, family, arena));
  std::vector<float> buffer(LargestParameter(arena));
  uint32_t crc = 0;
  for (int i = 0; i < static_cast<int>(arena.records().size()); ++i) {
    TellOfReading(arena.records()[i], arena, on_work);
    const int64_t count = arena.records()[i].num_elements();
    std::fill_n(buffer.begin(), count, 0.0F);  // padding
    STRAKE_RETURN_IF_ERROR(reader.Read(i, Tensor(buffer.data(), DType::kF32, {count})));
    crc = ExtendCrc32c(crc, absl::string_view(reinterpret_cast<const char*>(buffer.data()),
                                              count * sizeof(float)));
  }
  return absl::StrFormat("%08x", crc);
}

}  // namespace strake
