#include "train/report/run_history.h"

#include <algorithm>
#include <initializer_list>

#include "core/base/json.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxShown = 500;

std::string KindOf(const Json& record) {
  const auto it = record.find("kind");
  return it != record.end() && it->is_string() ? it->get<std::string>() : "";
}

bool IsState(const std::string& kind) {
  return kind == "started" || kind == "resumed" || kind == "stopped" || kind == "finished";
}

bool HasCount(const Json& record, const char* key) {
  const auto it = record.find(key);
  return it != record.end() && it->is_number_unsigned();
}

bool HasText(const Json& record, const char* key) {
  const auto it = record.find(key);
  return it != record.end() && it->is_string();
}

bool HasNumber(const Json& record, const char* key) {
  const auto it = record.find(key);
  return it != record.end() && it->is_number();
}

// Tells whether it is a list of objects that have these integers.
bool HasRows(const Json& record, const char* key, std::initializer_list<const char*> counts) {
  const auto rows = record.find(key);
  if (rows == record.end() || !rows->is_array()) return false;
  return std::all_of(rows->begin(), rows->end(), [&](const Json& row) {
    return row.is_object() && std::all_of(counts.begin(), counts.end(), [&](const char* count) {
             const auto it = row.find(count);
             return it != row.end() && it->is_number_integer();
           });
  });
}

bool HasOps(const Json& record) {
  if (!HasCount(record, "step") || !HasNumber(record, "seconds")) return false;
  if (!HasRows(record, "ops", {"calls"})) return false;
  return std::all_of(record["ops"].begin(), record["ops"].end(), [](const Json& row) {
    return HasText(row, "op") && HasText(row, "pass") && HasNumber(row, "seconds") &&
           HasNumber(row, "flops") && HasNumber(row, "bytes") && HasNumber(row, "limit");
  });
}

// Removes the samples after a step, or with `also_of_step` of it, too.
void CutSamples(uint64_t step, bool also_of_step, Json* samples) {
  while (!samples->empty()) {
    const uint64_t last = samples->back()["step"].get<uint64_t>();
    if (last < step || (last == step && !also_of_step)) return;
    samples->erase(samples->size() - 1);
  }
}

Json FirstAndLast(const Json& all) {
  if (all.size() <= kMaxShown) return all;
  Json some = Json::array();
  for (size_t i = 0; i < all.size(); ++i) {
    if (i < kMaxShown / 2 || i >= all.size() - kMaxShown / 2) some.push_back(all[i]);
  }
  return some;
}

}  // namespace

void RunHistory::Add(const Json& record) {
  const std::string kind = record.is_object() ? KindOf(record) : "";
  if (kind == "plan") {
    plan_ = record;
  } else if (kind == "memory") {
    if (HasText(record, "observed") && HasCount(record, "bytes")) memory_ = record;
  } else if (kind == "communicated") {
    if (HasCount(record, "step") && HasRows(record, "collectives", {"calls", "bytes"})) {
      communicated_ = record;
    }
  } else if (kind == "ops") {
    if (HasOps(record)) ops_ = record;
  } else if (kind == "sample") {
    if (!HasCount(record, "step") || !HasText(record, "prompt") ||
        !HasText(record, "continuation")) {
      return;
    }
    CutSamples(record["step"].get<uint64_t>(), /*also_of_step=*/true, &samples_);
    samples_.push_back(record);
  } else if (IsState(kind) || kind == "warning" || kind == "note") {
    if (!HasCount(record, "step")) return;
    if (kind == "started" || kind == "resumed") {
      CutSamples(record["step"].get<uint64_t>(), /*also_of_step=*/false, &samples_);
    }
    events_.push_back(record);
  }
}

std::string RunHistory::LastState() const {
  for (size_t i = events_.size(); i > 0; --i) {
    if (const std::string kind = KindOf(events_[i - 1]); IsState(kind)) return kind;
  }
  return "";
}

Json RunHistory::Members() const {
  Json members = Json::object();
  for (const char* key : {"version", "model", "data", "layout", "machine"}) {
    if (plan_.is_object() && HasText(plan_, key)) members[key] = plan_[key];
  }
  if (plan_.is_object() && HasRows(plan_, "memory", {"bytes"})) members["memory"] = plan_["memory"];
  if (plan_.is_object() && HasRows(plan_, "collectives", {"calls", "bytes"})) {
    members["collectives"] = plan_["collectives"];
  }
  if (memory_.is_object()) {
    members["observed"] = memory_["observed"];
    members["observed_bytes"] = memory_["bytes"];
    if (HasCount(memory_, "ranks")) members["observed_ranks"] = memory_["ranks"];
  }
  if (communicated_.is_object()) {
    members["communicated"] = communicated_["collectives"];
    members["communicated_step"] = communicated_["step"];
  }
  if (ops_.is_object()) {
    members["ops"] = ops_["ops"];
    members["ops_step"] = ops_["step"];
    members["ops_seconds"] = ops_["seconds"];
  }
  members["events"] = FirstAndLast(events_);
  members["samples"] = FirstAndLast(samples_);
  return members;
}

absl::StatusOr<RunHistory> ReadRunHistory(const std::string& path) {
  RunHistory history;
  const auto read = ReadFile(path, kMaxHistoryBytes);
  if (absl::IsNotFound(read.status())) return history;
  STRAKE_RETURN_IF_ERROR(read.status());
  absl::string_view text = *read;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const auto record = ParseOrderedJson(text.substr(0, end), path);
    if (record.ok()) history.Add(*record);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
  return history;
}

}  // namespace strake
