// The functions of hf_checkpoint.h that write.
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/crc32c.h"
#include "core/base/dtype.h"
#include "core/base/durable_file.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "glog/logging.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/checkpoint/hf_slice.h"
#include "models/checkpoint/safetensors.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr char kIndexFile[] = "model.safetensors.index.json";

// A whole tensor: all its slices, of one parameter.
using WholeTensor = std::vector<HfSlice>;

std::vector<WholeTensor> WholeTensorsOf(const ParameterRecord& record) {
  std::vector<WholeTensor> tensors;
  for (HfSlice& slice : HfSlicesOf(record)) {
    if (tensors.empty() || tensors.back()[0].name != slice.name) tensors.emplace_back();
    tensors.back().push_back(std::move(slice));
  }
  for (const WholeTensor& tensor : tensors) {
    int64_t num_elements = 0;
    for (const HfSlice& slice : tensor) num_elements += slice.rows * slice.columns;
    CHECK_EQ(num_elements, NumElements(tensor[0].file_shape))
        << "[hf_checkpoint] elements of a slice, not of the whole tensor " << tensor[0].name << " "
        << ShapeString(tensor[0].file_shape);
  }
  return tensors;
}

absl::Status WriteTensor(const Tensor& values, const WholeTensor& tensor,
                         SafetensorsWriter* writer) {
  const int64_t step = tensor[0].LinesAtATime(), line = tensor[0].full_line_elements();
  const int64_t num_lines = tensor[0].num_full_lines();
  std::vector<float> buffer(std::min(step, num_lines) * line);
  for (int64_t first = 0; first < num_lines; first += step) {
    const int64_t last = std::min(first + step, num_lines);
    for (const HfSlice& slice : tensor) {
      const int64_t begin = std::max(first, slice.first_line());
      const int64_t end = std::min(last, slice.first_line() + slice.num_lines());
      if (begin >= end) continue;
      TakeLines(values, slice, begin - slice.first_line(), end - begin,
                buffer.data() + (begin - first) * line);
    }
    STRAKE_RETURN_IF_ERROR(writer->Append(buffer.data(), (last - first) * line));
  }
  return absl::OkStatus();
}

// The tensors NAME + suffix of a whole model, in order: of a parameter's tensors one after the
// other, all arrays.
struct ModelFiles {
  ModelFiles(const ParameterArena& whole, const std::vector<std::string>& suffixes)
      : num_arrays(static_cast<int>(suffixes.size())) {
    for (const ParameterRecord& record : whole.records()) {
      for (const WholeTensor& tensor : tensors.emplace_back(WholeTensorsOf(record))) {
        for (const std::string& suffix : suffixes) {
          specs.push_back({tensor[0].name + suffix, tensor[0].file_shape});
        }
      }
    }
  }

  int num_arrays;
  std::vector<std::vector<WholeTensor>> tensors;  // by parameter
  std::vector<SafetensorsSpec> specs;
};

// Neighbouring tensors in one file.
struct FilePlan {
  std::string path = {};
  int first_tensor = 0;
  std::vector<SafetensorsSpec> tensors = {};
};

absl::StatusOr<std::vector<std::vector<FilePart>>> WriteFiles(const std::vector<FilePlan>& files,
                                                              const ModelFiles& model,
                                                              const ParameterArena& whole,
                                                              SafetensorsDType dtype,
                                                              FetchParameter fetch) {
  std::vector<SafetensorsWriter> writers;
  for (const FilePlan& file : files) {
    STRAKE_ASSIGN_OR_RETURN(SafetensorsWriter writer,
                            SafetensorsWriter::Create(file.path, file.tensors, dtype));
    writers.push_back(std::move(writer));
  }
  const auto write = [&](int spec, const Tensor& values, const WholeTensor& tensor) {
    const auto next =
        std::upper_bound(files.begin(), files.end(), spec,
                         [](int i, const FilePlan& file) { return i < file.first_tensor; });
    SafetensorsWriter& writer = writers[next - files.begin() - 1];
    STRAKE_RETURN_IF_ERROR(writer.Seek(spec - (next - 1)->first_tensor));
    return WriteTensor(values, tensor, &writer);
  };
  int spec = 0;
  for (int i = 0; i < static_cast<int>(model.tensors.size()); ++i) {
    const std::vector<WholeTensor>& tensors = model.tensors[i];
    for (int array = 0; array < model.num_arrays; ++array) {
      STRAKE_ASSIGN_OR_RETURN(const Tensor values, fetch(i, array));
      const ParameterRecord& record = whole.records()[i];
      CHECK_EQ(values.num_elements(), record.num_elements())
          << "[hf_checkpoint] " << values.ToString() << " for " << record.name() << " "
          << ShapeString(record.shape());
      STRAKE_ASSIGN_OR_RETURN(const HostCopy host, HostCopy::Of(values));
      for (int j = 0; j < static_cast<int>(tensors.size()); ++j) {
        STRAKE_RETURN_IF_ERROR(write(spec + j * model.num_arrays + array, host, tensors[j]));
      }
    }
    spec += static_cast<int>(tensors.size()) * model.num_arrays;
  }
  std::vector<std::vector<FilePart>> parts;
  for (SafetensorsWriter& writer : writers) {
    STRAKE_RETURN_IF_ERROR(writer.Finish());
    parts.push_back(writer.parts());
  }
  return parts;
}

int64_t NumBytes(const SafetensorsSpec& tensor, SafetensorsDType dtype) {
  const int64_t element_bytes = dtype == SafetensorsDType::kF32 ? 4 : 2;
  return NumElements(tensor.shape) * element_bytes;
}

// The files of weights, without their paths.
std::vector<FilePlan> PlanFiles(const std::vector<SafetensorsSpec>& tensors, SafetensorsDType dtype,
                                int64_t max_file_bytes) {
  std::vector<FilePlan> files;
  int64_t file_bytes = 0;
  for (int i = 0; i < static_cast<int>(tensors.size()); ++i) {
    const int64_t num_bytes = NumBytes(tensors[i], dtype);
    if (files.empty() || file_bytes + num_bytes > max_file_bytes) {
      files.push_back({.first_tensor = i});
      file_bytes = 0;
    }
    files.back().tensors.push_back(tensors[i]);
    file_bytes += num_bytes;
  }
  return files;
}

std::string IndexText(const std::vector<FilePlan>& files, const std::vector<std::string>& names,
                      SafetensorsDType dtype) {
  nlohmann::json index;
  int64_t total_bytes = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    for (const SafetensorsSpec& tensor : files[i].tensors) {
      total_bytes += NumBytes(tensor, dtype);
      index["weight_map"][tensor.name] = names[i];
    }
  }
  index["metadata"]["total_size"] = total_bytes;
  return JsonText(index, 2) + "\n";
}

}  // namespace

SafetensorsDType FileDType(DType values) {
  return values == DType::kBf16 ? SafetensorsDType::kBf16 : SafetensorsDType::kF32;
}

absl::StatusOr<std::vector<FilePart>> SaveArrays(const std::string& path,
                                                 const ParameterArena& whole,
                                                 const std::vector<std::string>& suffixes,
                                                 DType dtype, FetchParameter fetch) {
  const ModelFiles model(whole, suffixes);
  STRAKE_ASSIGN_OR_RETURN(const auto parts, WriteFiles({{.path = path, .tensors = model.specs}},
                                                       model, whole, FileDType(dtype), fetch));
  return parts[0];
}

absl::StatusOr<std::map<std::string, std::vector<FilePart>>> SaveWeights(
    const std::string& directory, const ParameterArena& whole, SafetensorsDType dtype,
    FetchParameter fetch, int64_t max_file_bytes) {
  const ModelFiles model(whole, {""});
  std::vector<FilePlan> files = PlanFiles(model.specs, dtype, max_file_bytes);
  std::vector<std::string> names;
  for (size_t i = 0; i < files.size(); ++i) {
    names.push_back(files.size() == 1
                        ? "model.safetensors"
                        : absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, files.size()));
    files[i].path = absl::StrCat(directory, "/", names[i]);
  }
  STRAKE_ASSIGN_OR_RETURN(const auto parts, WriteFiles(files, model, whole, dtype, fetch));
  std::map<std::string, std::vector<FilePart>> parts_of;
  for (size_t i = 0; i < files.size(); ++i) parts_of[names[i]] = parts[i];
  if (files.size() > 1) {
    const std::string text = IndexText(files, names, dtype);
    STRAKE_RETURN_IF_ERROR(WriteFileDurably(absl::StrCat(directory, "/", kIndexFile), text));
    parts_of[kIndexFile] = {
        {.num_bytes = static_cast<int64_t>(text.size()), .crc32c = ExtendCrc32c(0, text)}};
  }
  return parts_of;
}

absl::Status SaveArrays(const std::string& path, const ParameterArena& arena,
                        const std::vector<ArenaArray>& arrays) {
  CHECK(!arrays.empty()) << "[hf_checkpoint] no arrays for " << path;
  std::vector<std::string> suffixes;
  for (const ArenaArray& array : arrays) {
    CHECK(array.begin == 0 && array.values.rank() == 1 &&
          array.values.num_elements() == arena.num_elements())
        << "[hf_checkpoint] array \"" << array.suffix << "\" " << array.values.ToString()
        << " from " << array.begin << " over an arena of " << arena.num_elements();
    CHECK(array.values.dtype() == arrays[0].values.dtype())
        << "[hf_checkpoint] array \"" << array.suffix << "\" " << array.values.ToString()
        << " beside " << arrays[0].values.ToString();
    suffixes.push_back(array.suffix);
  }
  const auto fetch = [&](int parameter, int array) {
    const ParameterRecord& record = arena.records()[parameter];
    return arrays[array].values.Rows(record.offset, record.end());
  };
  return SaveArrays(path, arena, suffixes, arrays[0].values.dtype(), fetch).status();
}

}  // namespace strake
