#include "train/run/manifest.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "core/base/crc32c.h"
#include "core/base/file_descriptor.h"
#include "core/base/file_mapping.h"
#include "core/base/json.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr int kFormatVersion = 1;
constexpr char kZeros[] = "00000000";
constexpr int64_t kMaxManifestBytes = int64_t{1} << 30;
std::string Hex(uint32_t crc) { return absl::StrCat(absl::Hex(crc, absl::kZeroPad8)); }

// The manifest's own digits, as they stand in its text.
std::string OwnDigits(const std::string& digits) {
  return absl::StrCat("\"manifest\": \"", digits, "\"");
}

absl::StatusOr<FilePart> ParsePart(const nlohmann::json& json) {
  FilePart part;
  const bool good = json.is_array() && json.size() == 3 && json[0].is_string() &&
                    json[1].is_number_unsigned() && json[1] < (uint64_t{1} << 62) &&
                    json[2].is_string() && json[2].get<std::string>().size() == 8;
  if (!good || !absl::SimpleHexAtoi(json[2].get<std::string>(), &part.crc32c)) {
    return absl::DataLossError(absl::StrCat(QuoteJson(json), " is no part of a file"));
  }
  part.name = json[0];
  part.num_bytes = json[1];
  return part;
}

// Compares files with their parts, of which it reads one reader's.
class Verifier {
 public:
  Verifier(int reader, int num_readers, const OnWork& on_work)
      : reader_(reader), num_readers_(num_readers), on_work_(on_work) {}

  absl::Status Verify(const Manifest& manifest, const std::string& directory) {
    int64_t part = 0;
    for (const auto& [name, parts] : manifest) {
      for (const FilePart& each : parts) {
        if (IsRead(part++)) work_.total += static_cast<double>(each.num_bytes);
      }
    }
    for (const auto& [name, parts] : manifest) {
      STRAKE_RETURN_IF_ERROR(VerifyFile(absl::StrCat(directory, "/", name), parts));
    }
    return absl::OkStatus();
  }

 private:
  bool IsRead(int64_t part) const { return part % num_readers_ == reader_; }

  absl::Status VerifyFile(const std::string& path, const std::vector<FilePart>& parts) {
    const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat info;
    if (!file.valid() || fstat(file.get(), &info) != 0) {
      return absl::DataLossError(SystemError("read", path).message());
    }
    int64_t expected = 0;
    for (const FilePart& part : parts) expected += part.num_bytes;
    if (!S_ISREG(info.st_mode) || info.st_size != expected) {
      return Damaged(path, "has ", info.st_size, " bytes, and was written with ", expected);
    }
    if (expected == 0) return absl::OkStatus();
    STRAKE_ASSIGN_OR_RETURN(const FileMapping mapping, FileMapping::Map(path, file, expected));
    int64_t begin = 0;
    for (const FilePart& part : parts) {
      const absl::string_view bytes = mapping.bytes().substr(begin, part.num_bytes);
      begin += part.num_bytes;
      if (!IsRead(num_parts_++) || Checksum(bytes) == part.crc32c) continue;
      return part.name.empty() ? Damaged(path, "is damaged")
                               : Damaged(path, "tensor \"", part.name, "\" is damaged");
    }
    return absl::OkStatus();
  }

  uint32_t Checksum(absl::string_view bytes) {
    constexpr size_t kPieceBytes = 16 << 20;
    uint32_t crc = 0;
    for (; !bytes.empty(); bytes.remove_prefix(std::min(kPieceBytes, bytes.size()))) {
      if (on_work_ != nullptr) on_work_(work_);
      const absl::string_view piece = bytes.substr(0, kPieceBytes);
      crc = ExtendCrc32c(crc, piece);
      work_.done += static_cast<double>(piece.size());
    }
    return crc;
  }

  template <typename... What>
  static absl::Status Damaged(const std::string& path, const What&... what) {
    return absl::DataLossError(
        absl::StrCat(path, ": ", what..., "; manifest.json has another checksum"));
  }

  const int reader_, num_readers_;
  const OnWork& on_work_;
  WorkState work_ = {.what = "checking files", .unit = WorkUnit::kBytes};
  int64_t num_parts_ = 0;  // over all files
};

// Whether a path leads to nothing but what is below a directory.
bool IsBelow(absl::string_view path) {
  const std::vector<absl::string_view> steps = absl::StrSplit(path, '/');
  return std::all_of(steps.begin(), steps.end(), [](absl::string_view step) {
    return !step.empty() && step != "." && step != "..";
  });
}

absl::StatusOr<Manifest> ReadManifest(const std::string& directory) {
  const std::string path = directory + "/manifest.json";
  STRAKE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxManifestBytes));
  return ParseManifest(text, path);
}

bool IsOfWeights(absl::string_view name) {
  return absl::EndsWith(name, ".safetensors") && name != "optimizer.safetensors";
}

}  // namespace

std::string ToJson(const Manifest& manifest) {
  nlohmann::ordered_json json;
  json["format_version"] = kFormatVersion;
  json["files"] = nlohmann::ordered_json::object();
  for (const auto& [name, parts] : manifest) {
    nlohmann::ordered_json& list = json["files"][name] = nlohmann::ordered_json::array();
    for (const FilePart& part : parts) {
      list.push_back({part.name, part.num_bytes, Hex(part.crc32c)});
    }
  }
  json["manifest"] = kZeros;
  const std::string text = JsonText(json, 1) + "\n";
  const std::string digits = Hex(ExtendCrc32c(0, text));
  return absl::StrReplaceAll(text, {{OwnDigits(kZeros), OwnDigits(digits)}});
}

absl::StatusOr<Manifest> ParseManifest(absl::string_view text, const std::string& source) {
  const auto error = [&](const auto&... what) {
    return absl::DataLossError(absl::StrCat(source, ": ", what...));
  };
  const auto json = ParseJson(text, source);
  if (!json.ok()) return absl::DataLossError(json.status().message());
  if (!json->is_object() || json->value("format_version", nlohmann::json()) != kFormatVersion ||
      !json->contains("files") || !(*json)["files"].is_object() || !json->contains("manifest") ||
      !(*json)["manifest"].is_string()) {
    return error("is not a manifest of this version of Strake");
  }
  const std::string digits = (*json)["manifest"];
  const std::string zeroed = absl::StrReplaceAll(text, {{OwnDigits(digits), OwnDigits(kZeros)}});
  if (digits.size() != 8 || digits != Hex(ExtendCrc32c(0, zeroed))) {
    return error("is damaged; it has another checksum");
  }
  Manifest manifest;
  for (const auto& [name, parts] : (*json)["files"].items()) {
    std::vector<FilePart>& list = manifest[name];
    if (!parts.is_array() || !IsBelow(name)) return error("has no parts of ", name);
    for (const nlohmann::json& part : parts) {
      const auto parsed = ParsePart(part);
      if (!parsed.ok()) return error(parsed.status().message());
      list.push_back(*parsed);
    }
  }
  return manifest;
}

absl::Status VerifyCheckpoint(const std::string& directory, int reader, int num_readers,
                              const OnWork& on_work) {
  STRAKE_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(directory));
  return Verifier(reader, num_readers, on_work).Verify(manifest, directory);
}

absl::Status VerifyWeights(const std::string& directory, const OnWork& on_work) {
  absl::StatusOr<Manifest> manifest = ReadManifest(directory);
  if (absl::IsNotFound(manifest.status())) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(manifest.status());
  std::erase_if(*manifest, [](const auto& file) { return !IsOfWeights(file.first); });
  return Verifier(/*reader=*/0, /*num_readers=*/1, on_work).Verify(*manifest, directory);
}

}  // namespace strake
