#include "train/run/base_weights.h"

#include "absl/strings/str_cat.h"
#include "core/base/dtype.h"
#include "core/base/status_macros.h"
#include "core/memory/parameter_arena.h"
#include "models/transformer.h"
#include "train/run/run_record.h"

namespace strake {

absl::StatusOr<std::string> BaseChecksum(const std::string& directory, const ModelConfig& config) {
  ModelConfig plain = config;
  plain.lora = {};
  ParameterArena whole;
  const Transformer model(plain, /*max_seq_len=*/1, &whole);
  whole.AllocateDryRun(DType::kF32);
  return WeightsChecksum(directory, *plain.family, whole);
}

absl::Status CheckBaseOfAdapter(const ModelFiles& files, const ModelConfig& config) {
  if (files.adapter.empty()) return absl::OkStatus();
  const absl::StatusOr<RunRecord> record = ReadRunRecord(files.adapter);
  if (absl::IsNotFound(record.status())) return absl::OkStatus();
  STRAKE_RETURN_IF_ERROR(record.status());
  const auto recorded = record->identity.find(kBaseWeightsKey);
  if (recorded == record->identity.end() || !recorded->is_string()) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(const std::string checksum, BaseChecksum(files.base, config));
  if (*recorded == checksum) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(files.base, ": its weights have the checksum ", checksum, ", but the adapter ",
                   files.adapter, " was trained on a base with ", recorded->get<std::string>(),
                   "; name the directory of that base"));
}

}  // namespace strake
