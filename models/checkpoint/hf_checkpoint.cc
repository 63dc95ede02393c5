#include "models/checkpoint/hf_checkpoint.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/json.h"
#include "core/base/path_kind.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "glog/logging.h"
#include "models/checkpoint/hf_slice.h"
#include "models/checkpoint/safetensors.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

void CheckArrays(const ParameterArena& arena, const std::vector<ArenaArray>& arrays) {
  for (const ArenaArray& array : arrays) {
    CHECK(array.values.rank() == 1 && array.begin >= 0 && array.end() <= arena.num_elements())
        << "[hf_checkpoint] array \"" << array.suffix << "\" " << array.values.ToString()
        << " from " << array.begin << " over an arena of " << arena.num_elements();
  }
}

// The destination of some elements of a file's tensor.
struct Transfer {
  const SafetensorsFile* file;
  const SafetensorsEntry* entry;
  HfSlice slice;
  int64_t origin;  // of the parameter in `values`, as PlaceLines() takes it
  Tensor values;   // the part of the parameter that an array holds
};

// Adds transfers for the part of the slice that the array holds.
void AddTransfers(const SafetensorsFile& file, const SafetensorsEntry& entry,
                  const ParameterRecord& record, const HfSlice& slice, const ArenaArray& array,
                  std::vector<Transfer>* transfers) {
  const int64_t begin = std::max(array.begin, record.offset);
  const int64_t end = std::min(array.end(), record.end());
  if (begin >= end) return;
  const Tensor values = array.values.Rows(begin - array.begin, end - array.begin);
  for (HfSlice& block : HfSlicesWithin(slice, begin - record.offset, end - record.offset)) {
    transfers->push_back({&file, &entry, std::move(block), record.offset - begin, values});
  }
}

double BytesPerLine(const Transfer& transfer) {
  const auto elements =
      static_cast<double>(std::max<int64_t>(1, NumElements(transfer.entry->shape)));
  const auto bytes = static_cast<double>(transfer.entry->end - transfer.entry->begin);
  return bytes / elements * static_cast<double>(transfer.slice.line_elements());
}

// Tells how many bytes of all transfers are read.
class BytesRead {
 public:
  BytesRead(const std::vector<Transfer>& transfers, const OnWork& on_work) : on_work_(on_work) {
    work_ = {.what = kReadingWeights, .unit = WorkUnit::kBytes};
    for (const Transfer& transfer : transfers) {
      work_.total += BytesPerLine(transfer) * static_cast<double>(transfer.slice.num_lines());
    }
  }

  void Add(double bytes) {
    work_.done += bytes;
    if (on_work_ != nullptr) on_work_(work_);
  }

 private:
  const OnWork& on_work_;
  WorkState work_;
};

// `values` are the transfer's, in memory that the host can write.
absl::Status ReadTransfer(const Transfer& transfer, const Tensor& values,
                          std::vector<float>* buffer, BytesRead* bytes_read) {
  const HfSlice& slice = transfer.slice;
  const int64_t step = slice.LinesAtATime(), line = slice.line_elements();
  const int64_t full_line = slice.full_line_elements();
  for (int64_t first = 0; first < slice.num_lines(); first += step) {
    const int64_t count = std::min(step, slice.num_lines() - first);
    buffer->resize(std::max<size_t>(buffer->size(), count * line));
    const int64_t begin = (slice.first_line() + first) * full_line + slice.line_begin();
    STRAKE_RETURN_IF_ERROR(
        transfer.file->ReadF32Runs(*transfer.entry, begin, line, full_line, count, buffer->data()));
    PlaceLines(buffer->data(), slice, first, count, transfer.origin, values);
    bytes_read->Add(BytesPerLine(transfer) * static_cast<double>(count));
  }
  return absl::OkStatus();
}

// Transfers into the same values are consecutive, so that one copy on the host serves them.
absl::Status ReadTransfers(const std::vector<Transfer>& transfers, const OnWork& on_work) {
  std::vector<float> buffer;
  BytesRead bytes_read(transfers, on_work);
  for (size_t i = 0; i < transfers.size();) {
    const void* target = transfers[i].values.raw();
    STRAKE_ASSIGN_OR_RETURN(const HostCopy host, HostCopy::Of(transfers[i].values));
    for (; i < transfers.size() && transfers[i].values.raw() == target; ++i) {
      STRAKE_RETURN_IF_ERROR(ReadTransfer(transfers[i], host, &buffer, &bytes_read));
    }
    STRAKE_RETURN_IF_ERROR(host.WriteBack());
  }
  return absl::OkStatus();
}

absl::Status CheckDType(const SafetensorsFile& file, const SafetensorsEntry& entry,
                        FileDTypes dtypes) {
  // Reads nothing, but checks the dtype.
  if (dtypes == FileDTypes::kAnyFloat) return file.ReadF32(entry, 0, 0, nullptr);
  if (entry.dtype == SafetensorsDType::kF32) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(file.path(), ": tensor \"", entry.name, "\" is ",
                                                 SafetensorsDTypeName(entry.dtype),
                                                 ", but F32 is what is stored here"));
}

absl::Status CheckShape(const SafetensorsFile& file, const SafetensorsEntry& entry,
                        const HfSlice& slice) {
  if (entry.shape == slice.file_shape) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file.path(), ": tensor \"", entry.name, "\" has shape ",
                   ShapeString(entry.shape), ", but the model needs ",
                   ShapeString(slice.file_shape), "; is this the configuration it belongs to?"));
}

// "a", or "a" and 3 more.
std::string ListOf(const std::vector<std::string>& names) {
  if (names.size() == 1) return absl::StrCat("\"", names[0], "\"");
  return absl::StrCat("\"", names[0], "\" and ", names.size() - 1, " more");
}

// Refuses weights that transformers takes from other files than model.safetensors and its shards:
// the adapters of peft, which are added to them, and its distributed checkpoints.
absl::Status CheckNoOtherWeights(const std::string& directory) {
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (name == "adapter_config.json") {
      return absl::InvalidArgumentError(absl::StrCat(
          directory, "/", name,
          ": an adapter, which is not applied here; merge it into its model "
          "with merge_and_unload() of peft, or remove the file to take the model without it"));
    }
    if (absl::StartsWith(name, "shard-") && absl::EndsWith(name, ".safetensors")) {
      return absl::InvalidArgumentError(
          absl::StrCat(directory, "/", name,
                       ": a distributed checkpoint; load it with from_pretrained() of "
                       "transformers, and save_pretrained() the model into another directory"));
    }
  }
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot list ", directory, ": ", error.message()));
}

absl::Status NoWeights(const std::string& directory) {
  std::string message = absl::StrCat(
      directory, ": neither model.safetensors nor model.safetensors.index.json is there");
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(absl::StrCat(directory, "/", name)));
    if (kind == PathKind::kNothing) continue;
    absl::StrAppend(&message, "; load ", name,
                    " with from_pretrained() of transformers, and "
                    "save_pretrained() the model, to have it as safetensors");
  }
  return absl::NotFoundError(message);
}

// A tensor in a file.
struct Location {
  const SafetensorsFile* file;
  const SafetensorsEntry* entry;
};

// The files of a checkpoint, and the tensors in them.
class Checkpoint {
 public:
  static absl::StatusOr<Checkpoint> Open(const std::string& directory) {
    Checkpoint checkpoint;
    const std::string single = directory + "/model.safetensors";
    const std::string index = single + ".index.json";
    STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(directory));
    if (kind == PathKind::kDirectory) STRAKE_RETURN_IF_ERROR(CheckNoOtherWeights(directory));
    STRAKE_ASSIGN_OR_RETURN(const PathKind single_kind, PathKindOf(single));
    STRAKE_ASSIGN_OR_RETURN(const PathKind index_kind, PathKindOf(index));
    if (single_kind != PathKind::kNothing) {
      checkpoint.source_ = single;
      STRAKE_RETURN_IF_ERROR(checkpoint.AddFile(single));
    } else if (index_kind != PathKind::kNothing) {
      checkpoint.source_ = index;
      STRAKE_RETURN_IF_ERROR(checkpoint.AddShards(directory));
    } else {
      return NoWeights(directory);
    }
    return checkpoint;
  }

  // The checkpoint's name in errors about the whole of it.
  const std::string& source() const { return source_; }
  // Tensors by name; several shards may hold one.
  const std::map<std::string, std::vector<Location>>& tensors() const { return tensors_; }

 private:
  absl::Status AddFile(const std::string& path) {
    STRAKE_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
    files_.push_back(std::make_unique<SafetensorsFile>(std::move(file)));
    for (const SafetensorsEntry& entry : files_.back()->entries()) {
      tensors_[entry.name].push_back({files_.back().get(), &entry});
    }
    return absl::OkStatus();
  }

  absl::Status AddShards(const std::string& directory) {
    STRAKE_ASSIGN_OR_RETURN(const nlohmann::json index, ReadIndex());
    std::set<std::string> names;
    for (const auto& [tensor, shard] : index.items()) names.insert(shard.get<std::string>());
    std::map<std::string, const SafetensorsFile*> files;
    for (const std::string& name : names) {
      STRAKE_RETURN_IF_ERROR(AddFile(absl::StrCat(directory, "/", name)));
      files[name] = files_.back().get();
    }
    // Shards may hold more than the index lists, as for transformers.
    for (const auto& [tensor, shard] : index.items()) {
      if (files.at(shard.get<std::string>())->Find(tensor) == nullptr) {
        return absl::InvalidArgumentError(
            absl::StrCat(source_, ": tensor \"", tensor, "\" is not in ", shard.get<std::string>(),
                         "; give each shard the index it belongs to"));
      }
    }
    return absl::OkStatus();
  }

  // The index's weight_map, tensor to file name.
  absl::StatusOr<nlohmann::json> ReadIndex() const {
    STRAKE_ASSIGN_OR_RETURN(const std::string text, ReadFile(source_));
    STRAKE_ASSIGN_OR_RETURN(const nlohmann::json index, ParseJson(text, source_));
    const auto error = [&](absl::string_view what) {
      return absl::InvalidArgumentError(absl::StrCat(source_, ": ", what));
    };
    if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
      return error("no object \"weight_map\" in it");
    }
    for (const auto& [tensor, shard] : index["weight_map"].items()) {
      if (!shard.is_string() || shard == "" || absl::StrContains(shard.get<std::string>(), "/")) {
        return error(absl::StrCat("weight_map gives tensor \"", tensor, "\" ", QuoteJson(shard),
                                  ", which is no name of a file beside it; put all shards there"));
      }
    }
    return index["weight_map"];
  }

  std::string source_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, std::vector<Location>> tensors_;
};

// In the order of their first Add(); several slices of a parameter may lack the same tensor.
class MissingNames {
 public:
  void Add(const std::string& name) {
    if (std::find(names_.begin(), names_.end(), name) == names_.end()) names_.push_back(name);
  }
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::vector<std::string> names_;
};

absl::Status MissingTensors(const std::string& source, const std::vector<std::string>& names,
                            absl::string_view advice = "") {
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": the model's tensor ", ListOf(names), " is missing", advice));
}

bool HasTensor(const ParameterArena& arena, absl::string_view name) {
  for (const ParameterRecord& record : arena.records()) {
    for (const ParameterSegment& segment : record.segments) {
      if (segment.name == name) return true;
    }
  }
  return false;
}

absl::StatusOr<bool> SameValues(const Location& a, const Location& b) {
  if (a.entry->shape != b.entry->shape) return false;
  constexpr int64_t kBlock = int64_t{1} << 16;
  const int64_t count = NumElements(a.entry->shape);
  std::vector<float> a_values(std::min(count, kBlock)), b_values(a_values.size());
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    STRAKE_RETURN_IF_ERROR(a.file->ReadF32(*a.entry, begin, n, a_values.data()));
    STRAKE_RETURN_IF_ERROR(b.file->ReadF32(*b.entry, begin, n, b_values.data()));
    if (std::memcmp(a_values.data(), b_values.data(), n * sizeof(float)) != 0) return false;
  }
  return true;
}

// A parameter cannot take two tensors.
absl::Status OneOfTwo(const Location& a, const Location& b, bool tied) {
  const std::string where = a.file == b.file ? "" : absl::StrCat(" of ", a.file->path());
  return absl::InvalidArgumentError(absl::StrCat(
      b.file->path(), ": tensor \"", b.entry->name, "\" is not \"", a.entry->name, "\"", where,
      tied ? ", but tie_word_embeddings in config.json says that they are one; set it to false to "
             "train both, or remove one of the tensors"
           : ", but both are the same parameter; remove one of the tensors"));
}

std::string UnknownTensorsText(const std::vector<std::string>& names) {
  return absl::StrCat("tensor ", ListOf(names),
                      " is not one of the model's; is this the configuration it belongs to?");
}

// Finds the tensors of a checkpoint that hold a model's parameters.
class ModelTensors {
 public:
  ModelTensors(const Checkpoint& checkpoint, const ModelFamily& family, const ParameterArena& arena)
      : checkpoint_(checkpoint),
        family_(family),
        head_(absl::StrCat(family.tensors.head, ".weight")),
        tied_(!HasTensor(arena, head_) && !arena.elsewhere().contains(head_)) {}

  const std::string& head() const { return head_; }

  // Null where there is none. Several must be equal: under two spellings, or in two shards.
  absl::StatusOr<std::optional<Location>> Find(const std::string& name) {
    std::optional<Location> first;
    for (const std::string& spelling : Spellings(name)) {
      const auto found = checkpoint_.tensors().find(spelling);
      if (found == checkpoint_.tensors().end()) continue;
      used_.insert(spelling);
      for (const Location& location : found->second) {
        STRAKE_RETURN_IF_ERROR(CheckDType(*location.file, *location.entry, FileDTypes::kAnyFloat));
        if (first.has_value()) {
          STRAKE_ASSIGN_OR_RETURN(const bool same, SameValues(*first, location));
          if (!same) {
            return OneOfTwo(*first, location, IsTiedTable(name) && absl::EndsWith(spelling, head_));
          }
        } else {
          first = location;
        }
      }
    }
    return first;
  }

  // The tensors that no Find() returned and that are no buffers.
  std::vector<std::string> Unknown() const {
    std::vector<std::string> names;
    for (const auto& [name, locations] : checkpoint_.tensors()) {
      if (used_.contains(name)) continue;
      if (!family_.is_buffer(name, locations[0].entry->shape)) names.push_back(name);
    }
    return names;
  }

 private:
  bool IsTiedTable(const std::string& name) const {
    return tied_ && name == absl::StrCat(family_.tensors.token_embedding, ".weight");
  }

  // Names with the prefix, without it, or with one more, as for transformers.
  std::vector<std::string> Spellings(const std::string& name) const {
    const std::string prefix = family_.tensors.optional_prefix;
    std::set<std::string> spellings = {std::string(absl::StripPrefix(name, prefix)), prefix + name};
    // A file has the one table of tied embeddings under either name, or both.
    if (IsTiedTable(name)) spellings.insert({head_, prefix + head_});
    spellings.erase(name);
    std::vector<std::string> ordered = {name};
    ordered.insert(ordered.end(), spellings.begin(), spellings.end());
    return ordered;
  }

  const Checkpoint& checkpoint_;
  const ModelFamily& family_;
  const std::string head_;
  const bool tied_;
  std::set<std::string> used_;
};

}  // namespace

absl::Status LoadWeights(const std::string& directory, const ModelFamily& family,
                         ParameterArena& arena, const OnWork& on_work) {
  return LoadWeights(directory, family, arena, {{/*suffix=*/"", arena.values()}}, on_work);
}

// The tensors of a checkpoint, by the arena's parameters.
struct WeightsReader::Found {
  struct Slice {
    HfSlice slice;
    Location location;
  };

  Checkpoint checkpoint;
  std::vector<std::vector<Slice>> slices = {};  // by parameter

  void AddTransfersTo(const ParameterRecord& record, int parameter, const ArenaArray& array,
                      std::vector<Transfer>* transfers) const {
    for (const Slice& each : slices[parameter]) {
      AddTransfers(*each.location.file, *each.location.entry, record, each.slice, array, transfers);
    }
  }
};

WeightsReader::WeightsReader(const ParameterArena* arena, std::unique_ptr<const Found> found)
    : arena_(arena), found_(std::move(found)) {}
WeightsReader::WeightsReader(WeightsReader&&) noexcept = default;
WeightsReader& WeightsReader::operator=(WeightsReader&&) noexcept = default;
WeightsReader::~WeightsReader() = default;

absl::StatusOr<WeightsReader> WeightsReader::Open(const std::string& directory,
                                                  const ModelFamily& family,
                                                  const ParameterArena& arena) {
  STRAKE_ASSIGN_OR_RETURN(Checkpoint opened, Checkpoint::Open(directory));
  auto found = std::make_unique<Found>(Found{.checkpoint = std::move(opened)});
  const Checkpoint& checkpoint = found->checkpoint;
  ModelTensors tensors(checkpoint, family, arena);
  MissingNames missing;
  for (const ParameterRecord& record : arena.records()) {
    std::vector<Found::Slice>& slices = found->slices.emplace_back();
    for (HfSlice& slice : HfSlicesOf(record)) {
      STRAKE_ASSIGN_OR_RETURN(const std::optional<Location> location, tensors.Find(slice.name));
      if (!location.has_value()) {
        missing.Add(slice.name);
        continue;
      }
      STRAKE_RETURN_IF_ERROR(CheckShape(*location->file, *location->entry, slice));
      slices.push_back({std::move(slice), *location});
    }
  }
  // Other ranks read them, and find those that are missing.
  for (const std::string& name : arena.elsewhere()) {
    STRAKE_RETURN_IF_ERROR(tensors.Find(name).status());
  }
  const std::vector<std::string> unknown = tensors.Unknown();
  if (!missing.names().empty()) {
    std::string advice;
    if (missing.names()[0] == tensors.head()) {
      advice =
          "; if its input and output embedding are one, set tie_word_embeddings to true in "
          "its config.json";
    } else if (!unknown.empty()) {
      advice = absl::StrCat(", and ", UnknownTensorsText(unknown));
    }
    return MissingTensors(checkpoint.source(), missing.names(), advice);
  }
  if (!unknown.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(checkpoint.source(), ": ",
                                                   UnknownTensorsText(unknown),
                                                   " If so, remove it to train without it"));
  }
  return WeightsReader(&arena, std::move(found));
}

absl::Status WeightsReader::Read(int parameter, const Tensor& values) const {
  const ParameterRecord& record = arena_->records()[parameter];
  CHECK_EQ(values.num_elements(), record.num_elements())
      << "[hf_checkpoint] " << values.ToString() << " for " << record.name() << " "
      << ShapeString(record.shape());
  const Tensor flat(values.raw(), values.dtype(), {values.num_elements()}, values.device());
  std::vector<Transfer> transfers;
  found_->AddTransfersTo(record, parameter, {.suffix = "", .values = flat, .begin = record.offset},
                         &transfers);
  return ReadTransfers(transfers, /*on_work=*/nullptr);
}

absl::Status LoadWeights(const std::string& directory, const ModelFamily& family,
                         const ParameterArena& arena, const std::vector<ArenaArray>& parts,
                         const OnWork& on_work) {
  CheckArrays(arena, parts);
  STRAKE_ASSIGN_OR_RETURN(const WeightsReader reader,
                          WeightsReader::Open(directory, family, arena));
  std::vector<Transfer> transfers;
  for (int i = 0; i < static_cast<int>(arena.records().size()); ++i) {
    for (const ArenaArray& part : parts) {
      reader.found_->AddTransfersTo(arena.records()[i], i, part, &transfers);
    }
  }
  return ReadTransfers(transfers, on_work);
}

absl::Status LoadArrays(const std::string& path, const ParameterArena& arena,
                        const std::vector<ArenaArray>& arrays, FileDTypes dtypes,
                        const OnWork& on_work) {
  CheckArrays(arena, arrays);
  STRAKE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  std::vector<Transfer> transfers;
  MissingNames missing;
  std::set<std::string> expected;
  for (const ParameterRecord& record : arena.records()) {
    const std::vector<HfSlice> slices = HfSlicesOf(record);
    for (const ArenaArray& array : arrays) {
      for (const HfSlice& slice : slices) {
        const std::string name = slice.name + array.suffix;
        expected.insert(name);
        const SafetensorsEntry* entry = file.Find(name);
        if (entry == nullptr) {
          missing.Add(name);
          continue;
        }
        STRAKE_RETURN_IF_ERROR(CheckShape(file, *entry, slice));
        STRAKE_RETURN_IF_ERROR(CheckDType(file, *entry, dtypes));
        AddTransfers(file, *entry, record, slice, array, &transfers);
      }
    }
  }
  if (!missing.names().empty()) return MissingTensors(path, missing.names());
  for (const std::string& name : arena.elsewhere()) {
    for (const ArenaArray& array : arrays) expected.insert(name + array.suffix);
  }
  std::vector<std::string> unknown;
  for (const SafetensorsEntry& entry : file.entries()) {
    if (!expected.contains(entry.name)) unknown.push_back(entry.name);
  }
  if (!unknown.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", UnknownTensorsText(unknown)));
  }
  return ReadTransfers(transfers, on_work);
}

}  // namespace strake
