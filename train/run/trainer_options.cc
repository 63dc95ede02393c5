#include "train/run/trainer_options.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/name_error.h"
#include "core/base/status_macros.h"
#include "data/chat/chat_format.h"
#include "models/lora_modules.h"
#include "models/model_config.h"
#include "models/transformer.h"
#include "train/engine/stage_models.h"

namespace strake {
namespace {

absl::Status CheckAtLeast(const char* name, int64_t value, int64_t least) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("[trainer] ", name, " is ", value, ", and must be at least ", least));
}

absl::Status CheckSizes(const TrainerOptions& o) {
  STRAKE_RETURN_IF_ERROR(CheckAtLeast("seq_len", o.engine.seq_len, 1));
  STRAKE_RETURN_IF_ERROR(CheckAtLeast("micro_batch", o.engine.micro_batch, 1));
  STRAKE_RETURN_IF_ERROR(CheckAtLeast("num_threads", o.engine.num_threads, 1));
  STRAKE_RETURN_IF_ERROR(CheckAtLeast("global_batch", o.global_batch, 0));
  STRAKE_RETURN_IF_ERROR(CheckAtLeast("total_steps", o.schedule.total_steps, 1));
  STRAKE_RETURN_IF_ERROR(CheckAtLeast("warmup_steps", o.schedule.warmup_steps, 0));
  STRAKE_RETURN_IF_ERROR(CheckAtLeast("seed", o.seed, 0));
  STRAKE_RETURN_IF_ERROR(CheckAtLeast("eval_every", o.eval_every, 0));
  STRAKE_RETURN_IF_ERROR(CheckAtLeast("eval_batches", o.eval_batches, -1));
  STRAKE_RETURN_IF_ERROR(CheckAtLeast("sample_every", o.sample_every, 0));
  STRAKE_RETURN_IF_ERROR(CheckAtLeast("save_every", o.save_every, 0));
  STRAKE_RETURN_IF_ERROR(CheckAtLeast("keep_last", o.keep_last, 0));
  if (o.engine.micro_batch <= (int64_t{1} << 31) / o.engine.seq_len) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("[trainer] ", o.engine.micro_batch,
                                                 " sequences of ", o.engine.seq_len,
                                                 " are more than 2^31 tokens in a pass"));
}

absl::Status CheckLayout(const MeshVector& sizes, const EngineOptions& engine) {
  STRAKE_RETURN_IF_ERROR(CheckTensorParallel(engine.model, sizes.tp));
  STRAKE_RETURN_IF_ERROR(CheckSequence(engine.seq_len, sizes.cp));
  const int64_t local = engine.seq_len / sizes.cp;  // tokens that context parallelism leaves a rank
  if (!engine.sequence_parallel || local % sizes.tp == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("[trainer] sequence parallelism cuts sequences of ", local, " tokens over ",
                   sizes.tp, " ranks, which do not divide them"));
}

absl::Status CheckAtLeast0(const char* name, double value) {
  if (value >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("[trainer] ", name, " is ", value, ", and must be at least 0"));
}

absl::Status CheckChatFormat(const TrainerOptions& o) {
  if (o.chat_format.empty()) return absl::OkStatus();
  return NameError(o.names.chat_format, FindChatFormat(o.chat_format).status());
}

absl::Status CheckAdapters(const TrainerOptions& o) {
  const OptionNames& names = o.names;
  const bool lora = o.engine.model.lora.enabled();
  if (lora && o.init_from.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(names.lora_rank, "=", o.engine.model.lora.rank,
                     ": adapters are added to trained weights; give them by ", names.init_from));
  }
  if (!lora && !o.init_adapter.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(names.init_adapter, "=", o.init_adapter,
                                                   ": the model has no adapters; give ",
                                                   names.lora_rank));
  }
  return NameError(names.lora_targets, CheckLora(o.engine.model));
}

absl::Status CheckFiles(const TrainerOptions& o) {
  if (o.train_files.empty() && o.train_sources.empty()) {
    return absl::InvalidArgumentError("[trainer] no training data");
  }
  if (!o.train_files.empty() && !o.train_sources.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("[trainer] ", o.train_files.size(),
                                                   " training files and ", o.train_sources.size(),
                                                   " sources; give one or the other"));
  }
  if (o.directory.empty()) return absl::InvalidArgumentError("[trainer] no directory");
  std::set<std::string> source_names;
  for (const TrainingSource& source : o.train_sources) {
    if (source_names.insert(source.name).second) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("[trainer] two sources of training data are called \"", source.name, "\""));
  }
  if (o.train_sources.empty()) return absl::OkStatus();
  return NameError(o.names.train_files, Blend::CountsOf(BlendSourcesOf(o)).status());
}

}  // namespace

absl::Status ResolveTrainerOptions(const MeshVector& sizes, TrainerOptions* o) {
  STRAKE_RETURN_IF_ERROR(CheckSizes(*o));
  if (const absl::Status model = ValidateModelConfig(o->engine.model); !model.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("[trainer] the model: ", model.message()));
  }
  STRAKE_RETURN_IF_ERROR(CheckAdapters(*o));
  STRAKE_RETURN_IF_ERROR(CheckSeqLen(o->engine.model, o->engine.seq_len));
  STRAKE_RETURN_IF_ERROR(CheckLayout(sizes, o->engine));
  const int64_t pass = o->engine.micro_batch * sizes.dp;
  if (o->global_batch == 0) o->global_batch = pass;
  if (o->global_batch % pass != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "[trainer] global_batch ", o->global_batch, " is not a multiple of micro_batch ",
        o->engine.micro_batch, " times ", sizes.dp, " data-parallel ranks"));
  }
  o->engine.pipeline.micro_batches = o->global_batch / pass;
  STRAKE_RETURN_IF_ERROR(CheckPipeline(o->engine, sizes.pp));
  if (!(o->eps > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("[trainer] eps is ", o->eps, ", and must be above 0"));
  }
  STRAKE_RETURN_IF_ERROR(CheckAtLeast0("epochs", o->epochs));
  STRAKE_RETURN_IF_ERROR(CheckAtLeast0("max_epochs", o->max_epochs));
  STRAKE_RETURN_IF_ERROR(CheckChatFormat(*o));
  return CheckFiles(*o);
}

std::string DocumentModeName(DocumentMode mode) {
  return mode == DocumentMode::kConcat ? "concat" : mode == DocumentMode::kMask ? "mask" : "pad";
}

std::vector<BlendSource> BlendSourcesOf(const TrainerOptions& options) {
  std::vector<BlendSource> sources;
  for (const TrainingSource& source : options.train_sources) {
    sources.push_back({.name = source.name, .weight = source.weight});
  }
  return sources;
}

std::vector<std::vector<std::string>*> TrainLists(TrainerOptions* options) {
  if (options->train_sources.empty()) return {&options->train_files};
  std::vector<std::vector<std::string>*> lists;
  for (TrainingSource& source : options->train_sources) lists.push_back(&source.files);
  return lists;
}

}  // namespace strake
