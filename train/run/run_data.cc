#include "train/run/run_data.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "nlohmann/json.hpp"
#include "parallel/mesh/mesh.h"
#include "train/run/prepared_data.h"
#include "train/run/run_directory.h"
#include "train/run/run_settings.h"

namespace strake {
namespace {

constexpr char kData[] = "train_data";

// What of an identity decides which tokens a step is of.
nlohmann::ordered_json DataIdentity(const nlohmann::ordered_json& identity) {
  nlohmann::ordered_json data = nlohmann::ordered_json::object();
  for (const char* key : {kData, "blend", "data_rules", "seed", "shuffle", "seq_len",
                          "global_batch", "documents", "truncate", "chat_format"}) {
    if (identity.contains(key)) data[key] = identity[key];
  }
  return data;
}

absl::Status CheckIsTheRunsData(const std::string& record_path, const RunRecord& record,
                                const RunData& run) {
  const auto recorded = record.identity.find(kData);
  if (recorded == record.identity.end() || !recorded->is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat(record_path, ": \"identity\" has no \"", kData, "\""));
  }
  ThreadTeam team(NumUsableCores());
  const std::string fingerprint = run.data->FingerprintLike(*recorded, team);
  TrainerOptions identified = run.options;
  identified.documents = run.data->documents();
  const std::string differences =
      RunDifferences(DataIdentity(record.identity),
                     DataIdentity(IdentityOf(identified, fingerprint, run.data->rules())));
  if (differences.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(record_path, ": the data is not what the run was trained on: ", differences,
                   "; bring its files back as they were"));
}

}  // namespace

std::string DataCacheOf(const TrainerOptions& options) {
  if (!options.data_cache.empty()) return options.data_cache;
  const std::filesystem::path directory(options.directory + "/");
  return directory.parent_path().parent_path() / "data_cache";
}

absl::StatusOr<RunData> OpenRunData(const std::string& directory, const RunRecord& record,
                                    const TrainerOptions& options) {
  RunData run = {.options = options};
  run.options.data_cache = DataCacheOf(options);
  // A run that has none goes without.
  const absl::StatusOr<std::string> checkpoint = FindModelFolder(directory);
  STRAKE_ASSIGN_OR_RETURN(run.tokenizer,
                          OpenRunTokenizer(options, checkpoint.ok() ? *checkpoint : ""));
  const DataRules rules = DataRulesOf(record.identity);
  if (options.chat_format.empty()) run.options.chat_format = ChatFormatOf(record.identity);
  STRAKE_ASSIGN_OR_RETURN(const bool prepared, PrepareData(Mesh::SingleRank(), rules, run.tokenizer,
                                                           /*observers=*/{}, &run.options));
  STRAKE_ASSIGN_OR_RETURN(
      run.data, TrainingData::Open(run.options, {.rules = rules,
                                                 .tokenizer = run.tokenizer.tokenizer.get(),
                                                 .prepared = prepared}));
  STRAKE_RETURN_IF_ERROR(CheckIsTheRunsData(directory + "/run.json", record, run));
  return run;
}

}  // namespace strake
