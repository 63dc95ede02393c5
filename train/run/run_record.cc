#include "train/run/run_record.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/base/json.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

constexpr int kFormatVersion = 1;

// A count of at least 0, below 2^62 so that sums with it do not overflow.
absl::StatusOr<int64_t> ReadCount(const nlohmann::json& json, const char* key,
                                  const std::string& path) {
  const auto it = json.find(key);
  if (it != json.end() && it->is_number_unsigned() && it->get<uint64_t>() < (uint64_t{1} << 62)) {
    return it->get<int64_t>();
  }
  return absl::InvalidArgumentError(absl::StrCat(path, ": \"", key, "\" is ",
                                                 it == json.end() ? "missing" : QuoteJson(*it),
                                                 "; a count is needed"));
}

// An absent list is of a version that saved when all was done.
absl::StatusOr<DueWork> ReadDue(const nlohmann::json& json, const std::string& path) {
  DueWork due;
  const auto it = json.find("due");
  if (it == json.end()) return due;
  bool known = it->is_array();
  for (const nlohmann::json& work : known ? *it : nlohmann::json::array()) {
    known = known && (work == "evaluation" || work == "sample");
    due.evaluation |= work == "evaluation";
    due.sample |= work == "sample";
  }
  if (known) return due;
  return absl::InvalidArgumentError(absl::StrCat(path, ": \"due\" is ", QuoteJson(*it),
                                                 "; it must list \"evaluation\", \"sample\""));
}

// An absent fingerprint is of an earlier version.
absl::StatusOr<std::string> ReadFingerprint(const nlohmann::json& json, const std::string& path) {
  const auto it = json.find("fingerprint");
  if (it == json.end()) return "";
  const std::string digits = it->is_string() ? it->get<std::string>() : "";
  if (digits.size() == 32 && std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit)) {
    return digits;
  }
  return absl::InvalidArgumentError(absl::StrCat(path, ": \"fingerprint\" is ", QuoteJson(*it),
                                                 "; it must have 32 hexadecimal digits"));
}

std::string ValueText(const nlohmann::ordered_json& json, const std::string& key) {
  return json.contains(key) ? JsonText(json.at(key)) : "not set";
}

void ListDifferences(const nlohmann::ordered_json& there, const nlohmann::ordered_json& here,
                     const std::string& prefix, std::vector<std::string>* differences) {
  std::set<std::string> keys;
  for (const auto& [key, value] : there.items()) keys.insert(key);
  for (const auto& [key, value] : here.items()) keys.insert(key);
  for (const std::string& key : keys) {
    const nlohmann::ordered_json a = there.value(key, nlohmann::ordered_json());
    const nlohmann::ordered_json b = here.value(key, nlohmann::ordered_json());
    if (a.is_object() && b.is_object()) {
      ListDifferences(a, b, prefix + key + ".", differences);
    } else if (a != b) {
      differences->push_back(absl::StrCat(prefix, key, " is ", ValueText(there, key), " there, ",
                                          ValueText(here, key), " here"));
    }
  }
}

}  // namespace

std::string ToJson(const RunRecord& record) {
  nlohmann::ordered_json json;
  json["format_version"] = kFormatVersion;
  json["step"] = record.step;
  json["samples"] = record.samples;
  json["due"] = nlohmann::ordered_json::array();
  if (record.due.evaluation) json["due"].push_back("evaluation");
  if (record.due.sample) json["due"].push_back("sample");
  if (!record.fingerprint.empty()) json["fingerprint"] = record.fingerprint;
  if (record.data_time != 0) json["data_time"] = record.data_time;
  json["identity"] = record.identity;
  json["config"] = record.config;
  return JsonText(json, 2) + "\n";
}

absl::StatusOr<RunRecord> ParseRunRecord(absl::string_view text, const std::string& source) {
  STRAKE_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, source));
  if (!json.is_object() || json.value("format_version", nlohmann::json()) != kFormatVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": \"format_version\" is not ", kFormatVersion,
                     "; it was not written by this version of Strake"));
  }
  RunRecord record;
  STRAKE_ASSIGN_OR_RETURN(record.step, ReadCount(json, "step", source));
  STRAKE_ASSIGN_OR_RETURN(record.samples, ReadCount(json, "samples", source));
  STRAKE_ASSIGN_OR_RETURN(record.due, ReadDue(json, source));
  if (json.contains("data_time")) {
    STRAKE_ASSIGN_OR_RETURN(record.data_time, ReadCount(json, "data_time", source));
  }
  STRAKE_ASSIGN_OR_RETURN(record.fingerprint, ReadFingerprint(json, source));
  for (const char* key : {"identity", "config"}) {
    if (!json.contains(key) || !json[key].is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(source, ": \"", key, "\" is not an object"));
    }
  }
  record.identity = json["identity"];
  record.config = json["config"];
  return record;
}

absl::StatusOr<RunRecord> ReadRunRecord(const std::string& directory) {
  const std::string path = directory + "/run.json";
  STRAKE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return ParseRunRecord(text, path);
}

absl::StatusOr<RunRecord> ReadCheckpointRecord(const std::string& directory) {
  STRAKE_ASSIGN_OR_RETURN(RunRecord record, ReadRunRecord(directory));
  const auto contradiction = [&](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat(directory, "/run.json: ", what...));
  };
  const std::string name = std::filesystem::path(directory + "/").parent_path().filename().string();
  int64_t step = 0;
  absl::string_view digits = name;
  if (absl::ConsumePrefix(&digits, "step-") && absl::SimpleAtoi(digits, &step) &&
      step != record.step) {
    return contradiction("\"step\" is ", record.step, ", but the folder is ", name);
  }
  const auto batch = record.identity.find("global_batch");
  if (batch == record.identity.end() || !batch->is_number_integer()) return record;
  const double samples = double(record.step) * batch->get<double>();
  if (samples == double(record.samples)) return record;
  return contradiction("\"samples\" is ", record.samples, ", but ", record.step, " steps of ",
                       JsonText(*batch), " sequences are another number");
}

std::string RunDifferences(const nlohmann::ordered_json& there,
                           const nlohmann::ordered_json& here) {
  std::vector<std::string> differences;
  ListDifferences(there, here, "", &differences);
  return absl::StrJoin(differences, "; ");
}

absl::Status CheckSameRun(const nlohmann::ordered_json& saved, const nlohmann::ordered_json& now,
                          const std::string& where) {
  const std::string differences = RunDifferences(saved, now);
  if (differences.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(where, " holds another run: ", differences));
}

}  // namespace strake
