#include "train/run/base_weights.h"

#include "absl/strings/str_cat.h"
#include "core/base/dtype.h"
#include "core/base/status_macros.h"
#include "core/memory/parameter_arena.h"
#include "models/transformer.h"
#include "train/run/run_record.h"

namespace strake {
namespace {

// The checksum in the run.json of an adapter; "": none, or no run's.
absl::StatusOr<std::string> RecordedChecksum(const std::string& adapter) {
  const absl::StatusOr<RunRecord> record = ReadRunRecord(adapter);
  if (absl::IsNotFound(record.status())) return "";
  STRAKE_RETURN_IF_ERROR(record.status());
  const auto recorded = record->identity.find(kBaseWeightsKey);
  const bool found = recorded != record->identity.end() && recorded->is_string();
  return found ? recorded->get<std::string>() : "";
}

}  // namespace

absl::StatusOr<std::string> BaseChecksum(const std::string& directory, const ModelConfig& config,
                                         const OnWork& on_work) {
  ModelConfig plain = config;
  plain.lora = {};
  ParameterArena whole;
  const Transformer model(plain, /*max_seq_len=*/1, &whole);
  whole.AllocateDryRun(DType::kF32);
  return WeightsChecksum(directory, *plain.family, whole, on_work);
}

absl::Status CheckBaseOfAdapter(const ModelFiles& files, const ModelConfig& config,
                                const OnWork& on_work) {
  if (files.adapter.empty()) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(const std::string recorded, RecordedChecksum(files.adapter));
  if (recorded.empty()) return absl::OkStatus();  // does not read the base
  STRAKE_ASSIGN_OR_RETURN(const std::string checksum, BaseChecksum(files.base, config, on_work));
  return CheckBaseOfAdapter(files.adapter, files.base, checksum);
}

absl::Status CheckBaseOfAdapter(const std::string& adapter, const std::string& base,
                                const std::string& checksum) {
  STRAKE_ASSIGN_OR_RETURN(const std::string recorded, RecordedChecksum(adapter));
  if (recorded.empty() || recorded == checksum) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      base, ": its weights have the checksum ", checksum, ", but the adapter ", adapter,
      " was trained on a base with ", recorded, "; name the directory of that base"));
}

}  // namespace strake
