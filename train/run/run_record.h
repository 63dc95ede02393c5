// run.json: a run's identity and options, in its directory and in its checkpoints.
//
//   format_version   1
//   step             optimizer steps done; in the run's directory, those of the last checkpoint
//   samples          sequences consumed, the data position
//   due              what is still to be done after this step: "evaluation", "sample"
//   fingerprint      of the weights and the optimizer's moments at this step, 32 hexadecimal digits
//                    (Engine::StateFingerprint()); absent at step 0, and from earlier versions
//   data_time        where `identity` has samples of the training tokens: when the newest of their
//                    files was changed, in seconds since 1970
//   identity         what makes it this run: model, data, seed, shuffle, sequence length, global
//                    batch, optimizer settings; of adapters their rank, alpha, modules and the
//                    checksum of the frozen weights. Resuming needs the same.
//   config           every option, resolved. May change on resume where it is not in `identity`.
#ifndef STRAKE_TRAIN_RUN_RUN_RECORD_H_
#define STRAKE_TRAIN_RUN_RUN_RECORD_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace strake {

// What follows a step. A checkpoint is saved before it, so that nothing waits for it.
struct DueWork {
  bool evaluation = false;
  bool sample = false;

  bool any() const { return evaluation || sample; }
  friend bool operator==(const DueWork&, const DueWork&) = default;
};

// The key in `identity` of that checksum (train/run/base_weights.h).
inline constexpr char kBaseWeightsKey[] = "base_weights";

struct RunRecord {
  int64_t step = 0;
  int64_t samples = 0;
  DueWork due = {};
  nlohmann::ordered_json identity = {};
  nlohmann::ordered_json config = {};
  std::string fingerprint = {};  // empty where there is none
  int64_t data_time = 0;         // 0 where there is none
};

std::string ToJson(const RunRecord& record);

// Parses the text of a run.json; `source` is its name in errors. InvalidArgument, naming the key,
// for anything that ToJson() does not write, including another format version.
absl::StatusOr<RunRecord> ParseRunRecord(absl::string_view text, const std::string& source);

// Reads DIRECTORY/run.json. NotFound where there is none; ParseRunRecord()'s errors.
absl::StatusOr<RunRecord> ReadRunRecord(const std::string& directory);

// The same of a checkpoint. InvalidArgument where its numbers contradict each other or the folder's
// name, "step-N".
absl::StatusOr<RunRecord> ReadCheckpointRecord(const std::string& directory);

// "lr is 0.1 there, 0.2 here; ..."; empty where the two identities are equal.
std::string RunDifferences(const nlohmann::ordered_json& there, const nlohmann::ordered_json& here);

// FailedPrecondition, listing each difference with both values, where two identities differ.
// `where` names the source of `saved`.
absl::Status CheckSameRun(const nlohmann::ordered_json& saved, const nlohmann::ordered_json& now,
                          const std::string& where);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_RUN_RECORD_H_
