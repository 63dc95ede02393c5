#include "models/hf_checkpoint.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/dtype.h"
#include "core/base/json.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "models/safetensors.h"

namespace strake {
namespace {

constexpr char kOutputEmbedding[] = "lm_head.weight";
constexpr absl::string_view kGpt2Prefix = "transformer.";

// Elements that pass through memory at a time: 1 MB, less than a core's cache.
constexpr int64_t kBufferElements = 1 << 18;

// A cache line of f32: transposing goes by square tiles of this side, so that each line on either
// side is touched once.
constexpr int64_t kTile = 16;

// A segment as a matrix within its parameter, [rows, columns] with `stride` between rows.
struct Piece {
  Piece(const Parameter& parameter, const ParameterSegment& segment, int64_t first_column)
      : name(segment.name),
        rows(parameter.shape.size() == 1 ? 1 : parameter.shape[0]),
        columns(segment.columns),
        stride(parameter.shape.back()),
        offset(parameter.offset + first_column),
        transposed(segment.transposed && parameter.shape.size() == 2) {
    CHECK_LE(parameter.shape.size(), 2u)
        << "[hf_checkpoint] " << name << " " << ShapeString(parameter.shape);
    if (parameter.shape.size() == 1) {
      file_shape = {columns};
    } else {
      file_shape = transposed ? Shape{columns, rows} : Shape{rows, columns};
    }
  }

  // The file's tensor is num_lines() lines of line_elements(), whatever the layout.
  int64_t num_lines() const { return transposed ? columns : rows; }
  int64_t line_elements() const { return transposed ? rows : columns; }
  // As many lines as fit the buffer, in whole tiles.
  int64_t lines_at_a_time() const {
    const int64_t lines = kBufferElements / std::max<int64_t>(line_elements(), 1);
    return std::max(lines / kTile * kTile, kTile);
  }

  std::string name;
  int64_t rows, columns, stride;
  int64_t offset;  // in the arena, of the first element
  bool transposed;
  Shape file_shape;
};

std::vector<Piece> PiecesOf(const ParameterArena& arena) {
  std::vector<Piece> pieces;
  for (const Parameter& parameter : arena.parameters()) {
    int64_t column = 0;
    for (const ParameterSegment& segment : parameter.segments) {
      pieces.emplace_back(parameter, segment, column);
      column += segment.columns;
    }
  }
  return pieces;
}

// out[c, r] = in[r, c] for `rows` by `columns` elements of `in`, through a tile that stays in
// registers and cache, since strides that are powers of two would evict one line by the next.
template <typename In, typename Out>
void Transpose(const In* in, int64_t in_stride, int64_t rows, int64_t columns, Out* out,
               int64_t out_stride) {
  Out tile[kTile][kTile];
  for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
    const int64_t height = std::min(kTile, rows - r0);
    for (int64_t c0 = 0; c0 < columns; c0 += kTile) {
      const int64_t width = std::min(kTile, columns - c0);
      for (int64_t r = 0; r < height; ++r) {
        const In* row = in + (r0 + r) * in_stride + c0;
        for (int64_t c = 0; c < width; ++c) tile[c][r] = static_cast<Out>(row[c]);
      }
      for (int64_t c = 0; c < width; ++c) {
        std::copy_n(tile[c], height, out + (c0 + c) * out_stride + r0);
      }
    }
  }
}

template <typename In, typename Out>
void CopyRows(const In* in, int64_t in_stride, int64_t rows, int64_t columns, Out* out,
              int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      out[r * out_stride + c] = static_cast<Out>(in[r * in_stride + c]);
    }
  }
}

// `lines` of the file's tensor from line `first`, into the arena and out of it.
template <typename T>
void Scatter(const float* lines, int64_t first, int64_t count, const Piece& piece, T* array) {
  T* to = array + piece.offset + (piece.transposed ? first : first * piece.stride);
  if (piece.transposed) {
    Transpose(lines, piece.rows, count, piece.rows, to, piece.stride);
  } else {
    CopyRows(lines, piece.columns, count, piece.columns, to, piece.stride);
  }
}

template <typename T>
void Gather(const T* array, const Piece& piece, int64_t first, int64_t count, float* lines) {
  const T* from = array + piece.offset + (piece.transposed ? first : first * piece.stride);
  if (piece.transposed) {
    Transpose(from, piece.stride, piece.rows, count, lines, piece.rows);
  } else {
    CopyRows(from, piece.stride, count, piece.columns, lines, piece.columns);
  }
}

// Calls body(data) with the array's elements under their type.
template <typename Body>
void WithType(const Tensor& values, Body&& body) {
  switch (values.dtype()) {
    case DType::kF32:
      return body(values.data<float>());
    case DType::kF64:
      return body(values.data<double>());
    case DType::kBf16:
      return body(values.data<Bf16>());
    default:
      LOG(FATAL) << "[hf_checkpoint] no weights in " << values.ToString();
  }
}

void CheckArrays(const ParameterArena& arena, const std::vector<ArenaArray>& arrays) {
  for (const ArenaArray& array : arrays) {
    CHECK(array.values.shape() == Shape{arena.num_elements()})
        << "[hf_checkpoint] array \"" << array.suffix << "\" " << array.values.ToString()
        << " over an arena of " << arena.num_elements();
  }
}

// Where a tensor of some file goes.
struct Transfer {
  const SafetensorsFile* file;
  const SafetensorsEntry* entry;
  const Piece* piece;
  const Tensor* values;
};

absl::Status ReadTransfers(const std::vector<Transfer>& transfers) {
  std::vector<float> buffer;
  for (const Transfer& transfer : transfers) {
    const Piece& piece = *transfer.piece;
    const int64_t step = piece.lines_at_a_time(), line = piece.line_elements();
    for (int64_t first = 0; first < piece.num_lines(); first += step) {
      const int64_t count = std::min(step, piece.num_lines() - first);
      buffer.resize(std::max<size_t>(buffer.size(), count * line));
      STRAKE_RETURN_IF_ERROR(
          transfer.file->ReadF32(*transfer.entry, first * line, count * line, buffer.data()));
      WithType(*transfer.values,
               [&](auto* array) { Scatter(buffer.data(), first, count, piece, array); });
    }
  }
  return absl::OkStatus();
}

absl::Status CheckShape(const SafetensorsFile& file, const SafetensorsEntry& entry,
                        const Piece& piece) {
  if (entry.shape == piece.file_shape) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file.path(), ": tensor \"", entry.name, "\" has shape ",
                   ShapeString(entry.shape), ", but the model needs ",
                   ShapeString(piece.file_shape), "; is this the configuration it belongs to?"));
}

// "a", or "a" and 3 more.
std::string ListOf(const std::vector<std::string>& names) {
  if (names.size() == 1) return absl::StrCat("\"", names[0], "\"");
  return absl::StrCat("\"", names[0], "\" and ", names.size() - 1, " more");
}

bool FileExists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

// The files of a checkpoint and which of them holds which tensor.
class Checkpoint {
 public:
  static absl::StatusOr<Checkpoint> Open(const std::string& directory) {
    Checkpoint checkpoint;
    const std::string single = directory + "/model.safetensors";
    const std::string index = single + ".index.json";
    if (FileExists(single)) {
      checkpoint.source_ = single;
      STRAKE_RETURN_IF_ERROR(checkpoint.AddFile(single));
    } else if (FileExists(index)) {
      checkpoint.source_ = index;
      STRAKE_RETURN_IF_ERROR(checkpoint.AddShards(directory));
    } else {
      return absl::NotFoundError(absl::StrCat(
          directory, ": neither model.safetensors nor model.safetensors.index.json is there"));
    }
    return checkpoint;
  }

  struct Location {
    const SafetensorsFile* file;
    const SafetensorsEntry* entry;
  };

  // What errors about the checkpoint as a whole call it.
  const std::string& source() const { return source_; }
  const std::map<std::string, Location>& tensors() const { return tensors_; }

 private:
  absl::Status AddFile(const std::string& path) {
    STRAKE_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
    files_.push_back(std::make_unique<SafetensorsFile>(std::move(file)));
    for (const SafetensorsEntry& entry : files_.back()->entries()) {
      tensors_[entry.name] = {files_.back().get(), &entry};
    }
    return absl::OkStatus();
  }

  absl::Status AddShards(const std::string& directory) {
    STRAKE_ASSIGN_OR_RETURN(const nlohmann::json index, ReadIndex());
    std::set<std::string> names;
    for (const auto& [tensor, shard] : index.items()) names.insert(shard.get<std::string>());
    for (const std::string& name : names) {
      const std::string path = absl::StrCat(directory, "/", name);
      STRAKE_RETURN_IF_ERROR(AddFile(path));
      for (const SafetensorsEntry& entry : files_.back()->entries()) {
        const auto listed = index.find(entry.name);
        if (listed == index.end() || *listed != name) {
          return absl::InvalidArgumentError(
              absl::StrCat(path, ": tensor \"", entry.name, "\" is not listed there by ", source_));
        }
      }
    }
    for (const auto& [tensor, shard] : index.items()) {
      if (!tensors_.contains(tensor)) {
        return absl::InvalidArgumentError(absl::StrCat(source_, ": tensor \"", tensor,
                                                       "\" is not in ", shard.get<std::string>()));
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
        return error(absl::StrCat("weight_map gives tensor \"", tensor, "\" ", shard.dump(),
                                  ", which is no name of a file beside it"));
      }
    }
    return index["weight_map"];
  }

  std::string source_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Location> tensors_;
};

// Buffers that older versions of transformers saved beside the weights.
bool IsBuffer(const SafetensorsEntry& entry) {
  const Shape& shape = entry.shape;
  return absl::EndsWith(entry.name, ".attn.masked_bias") ||
         absl::EndsWith(entry.name, ".rotary_emb.inv_freq") ||
         (absl::EndsWith(entry.name, ".attn.bias") && shape.size() == 4 && shape[0] == 1 &&
          shape[1] == 1);
}

absl::Status MissingTensors(const std::string& source, const std::vector<std::string>& names) {
  std::string message = absl::StrCat(source, ": the model's tensor ", ListOf(names), " is missing");
  if (names[0] == kOutputEmbedding) {
    absl::StrAppend(&message,
                    "; if its input and output embedding are one, set tie_word_embeddings to true "
                    "in its config.json");
  }
  return absl::InvalidArgumentError(message);
}

absl::Status UnknownTensors(const std::string& source, const std::vector<std::string>& names) {
  return absl::InvalidArgumentError(absl::StrCat(source, ": tensor ", ListOf(names),
                                                 " is not one of the model's; is this the "
                                                 "configuration it belongs to?"));
}

}  // namespace

absl::Status LoadWeights(const std::string& directory, ParameterArena& arena) {
  STRAKE_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(directory));
  const std::vector<Piece> pieces = PiecesOf(arena);
  auto unused = checkpoint.tensors();
  std::vector<Transfer> transfers;
  std::vector<std::string> missing;
  for (const Piece& piece : pieces) {
    auto found = unused.find(piece.name);
    if (found == unused.end()) {
      found = unused.find(std::string(absl::StripPrefix(piece.name, kGpt2Prefix)));
    }
    if (found == unused.end()) {
      missing.push_back(piece.name);
      continue;
    }
    const auto [file, entry] = found->second;
    STRAKE_RETURN_IF_ERROR(CheckShape(*file, *entry, piece));
    STRAKE_RETURN_IF_ERROR(file->ReadF32(*entry, 0, 0, nullptr));  // the dtype alone
    transfers.push_back({file, entry, &piece, &arena.values()});
    unused.erase(found);
  }
  if (!missing.empty()) return MissingTensors(checkpoint.source(), missing);
  std::vector<std::string> unknown;
  for (const auto& [name, location] : unused) {
    if (name != kOutputEmbedding && !IsBuffer(*location.entry)) unknown.push_back(name);
  }
  if (!unknown.empty()) return UnknownTensors(checkpoint.source(), unknown);
  return ReadTransfers(transfers);
}

absl::Status SaveArrays(const std::string& path, const ParameterArena& arena,
                        const std::vector<ArenaArray>& arrays) {
  CheckArrays(arena, arrays);
  const std::vector<Piece> pieces = PiecesOf(arena);
  std::vector<SafetensorsSpec> specs;
  for (const Piece& piece : pieces) {
    for (const ArenaArray& array : arrays) {
      specs.push_back({piece.name + array.suffix, piece.file_shape});
    }
  }
  STRAKE_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, specs));
  std::vector<float> buffer;
  for (const Piece& piece : pieces) {
    const int64_t step = piece.lines_at_a_time(), line = piece.line_elements();
    for (const ArenaArray& array : arrays) {
      for (int64_t first = 0; first < piece.num_lines(); first += step) {
        const int64_t count = std::min(step, piece.num_lines() - first);
        buffer.resize(std::max<size_t>(buffer.size(), count * line));
        WithType(array.values,
                 [&](const auto* data) { Gather(data, piece, first, count, buffer.data()); });
        STRAKE_RETURN_IF_ERROR(writer.Append(buffer.data(), count * line));
      }
    }
  }
  return writer.Finish();
}

absl::Status LoadArrays(const std::string& path, const ParameterArena& arena,
                        const std::vector<ArenaArray>& arrays) {
  CheckArrays(arena, arrays);
  STRAKE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  const std::vector<Piece> pieces = PiecesOf(arena);
  std::vector<Transfer> transfers;
  std::vector<std::string> missing;
  std::set<std::string> expected;
  for (const Piece& piece : pieces) {
    for (const ArenaArray& array : arrays) {
      const std::string name = piece.name + array.suffix;
      expected.insert(name);
      const SafetensorsEntry* entry = file.Find(name);
      if (entry == nullptr) {
        missing.push_back(name);
        continue;
      }
      STRAKE_RETURN_IF_ERROR(CheckShape(file, *entry, piece));
      if (entry->dtype != SafetensorsDType::kF32) {
        return absl::InvalidArgumentError(absl::StrCat(path, ": tensor \"", name, "\" is ",
                                                       SafetensorsDTypeName(entry->dtype),
                                                       ", but F32 is what is stored here"));
      }
      transfers.push_back({&file, entry, &piece, &array.values});
    }
  }
  if (!missing.empty()) return MissingTensors(path, missing);
  std::vector<std::string> unknown;
  for (const SafetensorsEntry& entry : file.entries()) {
    if (!expected.contains(entry.name)) unknown.push_back(entry.name);
  }
  if (!unknown.empty()) return UnknownTensors(path, unknown);
  return ReadTransfers(transfers);
}

}  // namespace strake
