#include "models/checkpoint/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/crc32c.h"
#include "core/base/dtype.h"
#include "core/base/half.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little,
              "the format's bytes are used as they are");

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

constexpr size_t kMaxRank = 64;

struct DTypeRow {
  SafetensorsDType dtype;
  const char* name;
  int64_t num_bytes;
};

// In the order of the enumeration.
constexpr DTypeRow kDTypes[] = {
    {SafetensorsDType::kBool, "BOOL", 1},      {SafetensorsDType::kU8, "U8", 1},
    {SafetensorsDType::kI8, "I8", 1},          {SafetensorsDType::kF8E5M2, "F8_E5M2", 1},
    {SafetensorsDType::kF8E4M3, "F8_E4M3", 1}, {SafetensorsDType::kI16, "I16", 2},
    {SafetensorsDType::kU16, "U16", 2},        {SafetensorsDType::kF16, "F16", 2},
    {SafetensorsDType::kBf16, "BF16", 2},      {SafetensorsDType::kI32, "I32", 4},
    {SafetensorsDType::kU32, "U32", 4},        {SafetensorsDType::kF32, "F32", 4},
    {SafetensorsDType::kI64, "I64", 8},        {SafetensorsDType::kU64, "U64", 8},
    {SafetensorsDType::kF64, "F64", 8},
};

const DTypeRow& Row(SafetensorsDType dtype) { return kDTypes[static_cast<int>(dtype)]; }

const DTypeRow* FindDType(absl::string_view name) {
  for (const DTypeRow& row : kDTypes) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

// Parses the header's entry of one tensor, and makes the errors about it.
class EntryParser {
 public:
  EntryParser(absl::string_view source, const std::string& name, const json& fields)
      : source_(source), name_(name), fields_(fields) {}

  // `data_begin` and `data_bytes` place the data section in the file.
  absl::StatusOr<SafetensorsEntry> Parse(int64_t data_begin, int64_t data_bytes) const {
    if (!fields_.is_object()) return Error("is ", QuoteJson(fields_), ", not an object");
    for (const auto& [key, value] : fields_.items()) {
      if (key != "dtype" && key != "shape" && key != "data_offsets") {
        return Error("has the unknown field \"", key, "\"");
      }
    }
    STRAKE_ASSIGN_OR_RETURN(const DTypeRow* row, ParseDType());
    STRAKE_ASSIGN_OR_RETURN(Shape shape, ParseIntegers("shape"));
    STRAKE_ASSIGN_OR_RETURN(const Shape offsets, ParseIntegers("data_offsets"));
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_bytes) {
      return Error("has data_offsets ", ShapeString(offsets), ", which is not a range of the ",
                   data_bytes, " bytes of data");
    }
    const std::optional<int64_t> num_bytes = CheckedBytes(shape, row->num_bytes);
    if (num_bytes != offsets[1] - offsets[0]) {
      return Error("is ", row->name, ShapeString(shape), ", ",
                   num_bytes ? absl::StrCat(*num_bytes) : "more than 2^63",
                   " bytes, but its data_offsets ", ShapeString(offsets), " hold ",
                   offsets[1] - offsets[0]);
    }
    return SafetensorsEntry{name_, row->dtype, std::move(shape), data_begin + offsets[0],
                            data_begin + offsets[1]};
  }

 private:
  template <typename... Parts>
  absl::Status Error(const Parts&... parts) const {
    return absl::InvalidArgumentError(absl::StrCat(source_, ": tensor \"", name_, "\" ", parts...));
  }

  absl::StatusOr<const json*> Field(const char* key) const {
    const auto field = fields_.find(key);
    if (field == fields_.end()) return Error("has no ", key);
    return &*field;
  }

  absl::StatusOr<const DTypeRow*> ParseDType() const {
    STRAKE_ASSIGN_OR_RETURN(const json* field, Field("dtype"));
    const DTypeRow* row = field->is_string() ? FindDType(field->get<std::string>()) : nullptr;
    if (row == nullptr) return Error("has the unknown dtype ", QuoteJson(*field));
    return row;
  }

  absl::StatusOr<Shape> ParseIntegers(const char* key) const {
    STRAKE_ASSIGN_OR_RETURN(const json* field, Field(key));
    if (!field->is_array())
      return Error("has a ", key, " that is not an array: ", QuoteJson(*field));
    if (field->size() > kMaxRank) {
      return Error("has ", field->size(), " numbers in its ", key, ", more than ", kMaxRank);
    }
    Shape values;
    for (const json& value : *field) {
      // JSON's own parser gives a negative, fractional or longer number another type.
      if (!value.is_number_unsigned() ||
          value.get<uint64_t>() > std::numeric_limits<int64_t>::max()) {
        return Error("has ", QuoteJson(value), " in its ", key,
                     ", where only integers from 0 to 2^63 - 1 may be");
      }
      values.push_back(value.get<int64_t>());
    }
    return values;
  }

  // nullopt where the product does not fit.
  static std::optional<int64_t> CheckedBytes(const Shape& shape, int64_t num_bytes) {
    for (const int64_t size : shape) {
      if (__builtin_mul_overflow(num_bytes, size, &num_bytes)) return std::nullopt;
    }
    return num_bytes;
  }

  const absl::string_view source_;
  const std::string& name_;
  const json& fields_;
};

absl::Status CheckMetadata(const json& metadata, absl::string_view source) {
  bool good = metadata.is_object();
  for (const json& value : metadata) good = good && value.is_string();
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": __metadata__ is not an object of strings"));
}

// Checks that sorted entries lie end to end from `data_begin` to `file_bytes`.
absl::Status CheckCoverage(const std::vector<SafetensorsEntry>& entries, int64_t data_begin,
                           int64_t file_bytes, absl::string_view source) {
  int64_t covered = data_begin;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != covered) {
      return absl::InvalidArgumentError(absl::StrCat(
          source, ": tensor \"", entry.name, "\" begins at byte ", entry.begin - data_begin,
          " of the data, ", entry.begin < covered ? "inside another tensor" : "after a gap",
          ": the tensors before it end at ", covered - data_begin));
    }
    covered = entry.end;
  }
  if (covered == file_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(source, ": the tensors cover ",
                                                 covered - data_begin, " of ",
                                                 file_bytes - data_begin, " bytes of data"));
}

absl::StatusOr<uint64_t> HeaderBytes(absl::string_view file, absl::string_view source) {
  if (file.size() < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ": ", file.size(), " bytes are too few for a safetensors file (at least 8)"));
  }
  uint64_t header_bytes;
  std::memcpy(&header_bytes, file.data(), kLengthBytes);
  const uint64_t rest = file.size() - kLengthBytes;
  if (header_bytes > 0 && header_bytes <= rest && header_bytes <= kMaxHeaderBytes) {
    return header_bytes;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": header length ", header_bytes, " is not between 1 and ",
                   std::min(rest, kMaxHeaderBytes), " (the file has ", rest,
                   " bytes after the length, and at most 100 MB may be header)"));
}

// A file's data may begin at any byte, so elements are copied out.
template <typename Element, typename Convert>
void ConvertElements(const char* data, int64_t count, float* out, Convert convert) {
  for (int64_t i = 0; i < count; ++i) {
    Element element;
    std::memcpy(&element, data + i * sizeof(element), sizeof(element));
    out[i] = convert(element);
  }
}

// False for a dtype that weights cannot have.
bool ConvertToF32(SafetensorsDType dtype, const char* data, int64_t count, float* out) {
  switch (dtype) {
    case SafetensorsDType::kF32:
      std::copy_n(data, count * sizeof(float), reinterpret_cast<char*>(out));
      return true;
    case SafetensorsDType::kF16:
      ConvertElements<uint16_t>(data, count, out, HalfValue);
      return true;
    case SafetensorsDType::kBf16:
      ConvertElements<uint16_t>(data, count, out, [](uint16_t bits) {
        return std::bit_cast<float>(uint32_t{bits} << 16);
      });
      return true;
    case SafetensorsDType::kF64:
      ConvertElements<double>(data, count, out, [](double value) { return value; });
      return true;
    default:
      return false;
  }
}

// Removes pages from the process's memory. The kernel's own copy of the file's pages is not
// affected.
void ReleasePages(const char* begin, const char* end) {
  static const uintptr_t page_bytes = sysconf(_SC_PAGESIZE);
  const uintptr_t first = reinterpret_cast<uintptr_t>(begin) / page_bytes * page_bytes;
  madvise(reinterpret_cast<void*>(first), reinterpret_cast<uintptr_t>(end) - first, MADV_DONTNEED);
}

std::string HeaderText(const std::vector<SafetensorsSpec>& tensors, SafetensorsDType dtype) {
  std::string text = R"({"__metadata__":{"format":"pt"})";
  int64_t begin = 0;
  for (const SafetensorsSpec& tensor : tensors) {
    const int64_t end = begin + NumElements(tensor.shape) * Row(dtype).num_bytes;
    const json shape(std::vector<int64_t>(tensor.shape.begin(), tensor.shape.end()));
    absl::StrAppend(&text, ",", JsonText(json(tensor.name)), R"(:{"dtype":")", Row(dtype).name,
                    R"(","shape":)", JsonText(shape), R"(,"data_offsets":[)", begin, ",", end,
                    "]}");
    begin = end;
  }
  text += "}";
  // The data then begins at a multiple of 8 bytes.
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

const char* SafetensorsDTypeName(SafetensorsDType dtype) { return Row(dtype).name; }

absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensors(absl::string_view file,
                                                               absl::string_view source) {
  STRAKE_ASSIGN_OR_RETURN(const uint64_t header_bytes, HeaderBytes(file, source));
  STRAKE_ASSIGN_OR_RETURN(const json header,
                          ParseJson(file.substr(kLengthBytes, header_bytes), source));
  if (!header.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": the header is not an object"));
  }
  const int64_t data_begin = kLengthBytes + header_bytes;
  const int64_t file_bytes = file.size();
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, fields] : header.items()) {
    if (name == "__metadata__") {
      STRAKE_RETURN_IF_ERROR(CheckMetadata(fields, source));
      continue;
    }
    const EntryParser parser(source, name, fields);
    STRAKE_ASSIGN_OR_RETURN(SafetensorsEntry entry,
                            parser.Parse(data_begin, file_bytes - data_begin));
    entries.push_back(std::move(entry));
  }
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  STRAKE_RETURN_IF_ERROR(CheckCoverage(entries, data_begin, file_bytes, source));
  return entries;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  const FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return SystemError("open", path);
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return SystemError("look at", path);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  SafetensorsFile file;
  file.path_ = path;
  // An empty file cannot be mapped; the parser returns the error for it.
  if (info.st_size > 0) {
    auto mapping = FileMapping::Map(path, fd, info.st_size);
    if (!mapping.ok()) {
      return absl::Status(mapping.status().code(),
                          absl::StrCat(path, ": cannot be mapped: ", mapping.status().message()));
    }
    file.data_ = *std::move(mapping);
  }
  STRAKE_ASSIGN_OR_RETURN(file.entries_, ParseSafetensors(file.data_.bytes(), path));
  file.by_name_.resize(file.entries_.size());
  std::iota(file.by_name_.begin(), file.by_name_.end(), 0);
  std::sort(file.by_name_.begin(), file.by_name_.end(),
            [&](int32_t a, int32_t b) { return file.entries_[a].name < file.entries_[b].name; });
  return file;
}

const SafetensorsEntry* SafetensorsFile::Find(absl::string_view name) const {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [&](int32_t i, absl::string_view key) { return entries_[i].name < key; });
  if (found == by_name_.end() || entries_[*found].name != name) return nullptr;
  return &entries_[*found];
}

absl::Status SafetensorsFile::ReadF32(const SafetensorsEntry& entry, int64_t first, int64_t count,
                                      float* out) const {
  return ReadF32Runs(entry, first, count, count, 1, out);
}

absl::Status SafetensorsFile::ReadF32Runs(const SafetensorsEntry& entry, int64_t first, int64_t run,
                                          int64_t stride, int64_t num_runs, float* out) const {
  const int64_t end = num_runs == 0 ? first : first + (num_runs - 1) * stride + run;
  CHECK(first >= 0 && 0 <= run && run <= stride && num_runs >= 0 && end <= NumElements(entry.shape))
      << "[safetensors] elements " << first << " + " << run << ", " << num_runs << " times every "
      << stride << ", of " << entry.name << " " << ShapeString(entry.shape);
  const int64_t element_bytes = Row(entry.dtype).num_bytes;
  const char* begin = data_.bytes().data() + entry.begin + first * element_bytes;
  if (run == stride) {
    run *= num_runs;
    num_runs = 1;
  }
  for (int64_t i = 0; i < num_runs; ++i) {
    if (!ConvertToF32(entry.dtype, begin + i * stride * element_bytes, run, out + i * run)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": tensor \"", entry.name, "\" is ", Row(entry.dtype).name,
                       "; only F64, F32, F16 and BF16 can be read; save it as one of these"));
    }
  }
  ReleasePages(begin, begin + (end - first) * element_bytes);
  return absl::OkStatus();
}

absl::Status TooLargeForF16(const std::string& path, absl::string_view tensor, float value) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": tensor \"", tensor, "\" has ", value,
                                                 ", which is too large for F16; take BF16 or F32"));
}

absl::StatusOr<SafetensorsWriter> SafetensorsWriter::Create(
    const std::string& path, const std::vector<SafetensorsSpec>& tensors, SafetensorsDType dtype) {
  CHECK(dtype == SafetensorsDType::kF32 || dtype == SafetensorsDType::kBf16 ||
        dtype == SafetensorsDType::kF16)
      << "[safetensors] writes no " << SafetensorsDTypeName(dtype);
  std::set<absl::string_view> names;
  for (const SafetensorsSpec& tensor : tensors) {
    CHECK(names.insert(tensor.name).second) << "[safetensors] two tensors " << tensor.name;
  }
  FileDescriptor fd(
      open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!fd.valid()) return SystemError("create", path);
  SafetensorsWriter writer(path, std::move(fd), dtype);
  const std::string header = HeaderText(tensors, dtype);
  int64_t begin = kLengthBytes + header.size();
  writer.parts_.push_back({.num_bytes = begin});
  for (const SafetensorsSpec& tensor : tensors) {
    writer.parts_.push_back(
        {.name = tensor.name, .num_bytes = NumElements(tensor.shape) * Row(dtype).num_bytes});
    writer.tensor_begin_.push_back(begin);
    writer.elements_left_ += NumElements(tensor.shape);
    begin += NumElements(tensor.shape) * Row(dtype).num_bytes;
  }
  const uint64_t header_bytes = header.size();
  char length[kLengthBytes];
  std::memcpy(length, &header_bytes, kLengthBytes);
  const int out = writer.fd_.get();
  STRAKE_RETURN_IF_ERROR(WriteAll(out, {length, kLengthBytes}, path));
  STRAKE_RETURN_IF_ERROR(WriteAll(out, header, path));
  writer.parts_[0].crc32c = ExtendCrc32c(ExtendCrc32c(0, {length, kLengthBytes}), header);
  writer.BeginPart(1);
  return writer;
}

void SafetensorsWriter::BeginPart(size_t part) {
  part_ = part;
  if (part == parts_.size()) return;
  parts_[part].crc32c = 0;
  part_bytes_left_ = parts_[part].num_bytes;
}

absl::Status SafetensorsWriter::Append(const float* values, int64_t count) {
  CHECK(count >= 0 && count <= elements_left_) << "[safetensors] " << count << " elements for "
                                               << path_ << ", which lacks " << elements_left_;
  std::vector<uint16_t> rounded(dtype_ == SafetensorsDType::kF32 ? 0 : count);
  if (dtype_ == SafetensorsDType::kBf16) {
    for (int64_t i = 0; i < count; ++i) rounded[i] = Bf16(values[i]).bits;
  } else if (dtype_ == SafetensorsDType::kF16) {
    const int64_t too_large = ToHalf(values, count, rounded.data());
    if (too_large < count) return TooLargeForF16(path_, parts_[part_].name, values[too_large]);
  }
  const void* data = rounded.empty() ? static_cast<const void*>(values) : rounded.data();
  elements_left_ -= count;
  // Pieces let a checksum read what the write has brought into the cache.
  constexpr size_t kPieceBytes = 1 << 20;
  absl::string_view bytes(static_cast<const char*>(data), count * Row(dtype_).num_bytes);
  while (!bytes.empty()) {
    const absl::string_view piece = bytes.substr(0, kPieceBytes);
    bytes.remove_prefix(piece.size());
    STRAKE_RETURN_IF_ERROR(WriteAll(fd_.get(), piece, path_));
    AddToChecksums(piece);
    StartFlush(piece.size());
  }
  return absl::OkStatus();
}

void SafetensorsWriter::AddToChecksums(absl::string_view bytes) {
  while (!bytes.empty()) {
    if (part_bytes_left_ == 0) {
      BeginPart(part_ + 1);
      continue;
    }
    const absl::string_view of_part = bytes.substr(0, part_bytes_left_);
    parts_[part_].crc32c = ExtendCrc32c(parts_[part_].crc32c, of_part);
    part_bytes_left_ -= of_part.size();
    bytes.remove_prefix(of_part.size());
  }
}

// Lets the disk begin, so that it works while the rest is prepared. Finish() returns its errors.
void SafetensorsWriter::StartFlush(int64_t num_written) {
  constexpr int64_t kFlushBytes = 8 << 20;
  unflushed_bytes_ += num_written;
  if (unflushed_bytes_ < kFlushBytes) return;
  unflushed_bytes_ = 0;
  (void)sync_file_range(fd_.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
}

absl::Status SafetensorsWriter::Seek(int index) {
  CHECK(0 <= index && index < tensor_begin_.size())
      << "[safetensors] tensor " << index << " of " << tensor_begin_.size() << " in " << path_;
  if (lseek(fd_.get(), tensor_begin_[index], SEEK_SET) < 0) return SystemError("seek in", path_);
  BeginPart(index + 1);
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::Finish() {
  CHECK(fd_.valid() && elements_left_ == 0)
      << "[safetensors] " << path_ << " is closed or lacks " << elements_left_ << " elements";
  if (fsync(fd_.get()) != 0) return SystemError("flush", path_);
  fd_ = FileDescriptor(-1);
  return absl::OkStatus();
}

}  // namespace strake
