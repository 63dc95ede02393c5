#include "train/run/run_settings.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/dtype.h"
#include "core/base/json.h"
#include "core/base/version.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"
#include "data/blend.h"
#include "glog/logging.h"
#include "models/activation_recompute.h"
#include "models/families/families.h"
#include "models/lora_modules.h"
#include "nlohmann/json.hpp"
#include "optim/lr_schedule.h"
#include "parallel/context/context_parallel.h"
#include "parallel/pipeline/schedule.h"
#include "train/run/run_record.h"

namespace strake {
namespace {

constexpr char kDataRules[] = "data_rules", kChatFormat[] = "chat_format";

const char* ActivationRecomputeSetting(ActivationRecompute recompute) {
  switch (recompute) {
    case ActivationRecompute::kNone:
      return "none";
    case ActivationRecompute::kSelective:
      return "selective";
    case ActivationRecompute::kFull:
      return "full";
  }
  LOG(FATAL) << "[run_settings] unknown recomputation " << static_cast<int>(recompute);
}

std::string ResumeSetting(const TrainerOptions& options) {
  switch (options.resume) {
    case ResumePolicy::kAuto:
      return "auto";
    case ResumePolicy::kNewestGood:
      return "newest_good";
    case ResumePolicy::kNever:
      return "never";
    case ResumePolicy::kFromCheckpoint:
      return options.resume_checkpoint;
  }
  LOG(FATAL) << "[run_settings] unknown policy " << static_cast<int>(options.resume);
}

// "a.txt,b.txt" or "books:a.txt,b.txt,code:c.txt".
std::string ValidationSetting(const std::vector<ValidationSet>& sets) {
  std::vector<std::string> texts;
  for (const ValidationSet& set : sets) {
    texts.push_back(
        absl::StrCat(set.name, set.name.empty() ? "" : ":", absl::StrJoin(set.files, ",")));
  }
  return absl::StrJoin(texts, ",");
}

// "a.txt,b.txt", or "books:a.txt,b.txt:0.7,code:c.txt:0.3".
std::string TrainingSetting(const TrainerOptions& o) {
  if (o.train_sources.empty()) return absl::StrJoin(o.train_files, ",");
  std::vector<std::string> texts;
  for (const TrainingSource& source : o.train_sources) {
    const std::string files = absl::StrJoin(source.files, ",");
    const bool is_named = !source.name.empty() && source.name != files;
    // JSON's number is the shortest that is the weight exactly.
    texts.push_back(absl::StrCat(is_named ? source.name + ":" : "", files, ":",
                                 JsonText(nlohmann::json(source.weight))));
  }
  return absl::StrJoin(texts, ",");
}

// The settings of the optimizer and the schedule, which are part of the identity.
void AddOptimizerSettings(const TrainerOptions& o, nlohmann::ordered_json* json) {
  (*json)["lr"] = o.schedule.lr;
  (*json)["min_lr"] = o.schedule.min_lr;
  (*json)["schedule"] = ScheduleKindName(o.schedule.kind);
  (*json)["warmup_steps"] = o.schedule.warmup_steps;
  (*json)["weight_decay"] = o.weight_decay;
  (*json)["beta1"] = o.beta1;
  (*json)["beta2"] = o.beta2;
  (*json)["eps"] = o.eps;
  (*json)["clip_norm"] = o.clip_norm;
}

void AddAdapterSettings(const ModelConfig& model, nlohmann::ordered_json* json) {
  const LoraConfig& lora = model.lora;
  (*json)["lora_rank"] = lora.rank;
  (*json)["lora_alpha"] = lora.alpha;
  (*json)["lora_targets"] =
      absl::StrJoin(lora.targets.empty() ? AdapterModules(model) : lora.targets, ",");
}

nlohmann::ordered_json SettingsOf(const TrainerOptions& o, const MeshVector& sizes) {
  nlohmann::ordered_json json;
  json["init_from"] = o.init_from;
  if (o.engine.model.lora.enabled()) {
    json["init_adapter"] = o.init_adapter;
    AddAdapterSettings(o.engine.model, &json);
  }
  json["train_data"] = TrainingSetting(o);
  json["val_data"] = ValidationSetting(o.val_sets);
  if (!o.skip_data.empty()) json["skip_data"] = o.skip_data;
  json["seq_len"] = o.engine.seq_len;
  json["documents"] = DocumentModeName(o.documents);
  json["truncate"] = o.truncate;
  json["micro_batch"] = o.engine.micro_batch;
  json["global_batch"] = o.global_batch;
  json["shuffle"] = o.shuffle;
  json["steps"] = o.schedule.total_steps;
  if (o.epochs > 0) json["epochs"] = o.epochs;
  if (o.max_epochs > 0) json["max_epochs"] = o.max_epochs;
  AddOptimizerSettings(o, &json);
  json["seed"] = o.seed;
  json["device"] = o.engine.device == Device::kCuda ? "cuda" : "cpu";
  json["dtype"] = DTypeSetting(o.engine.dtype);
  json["threads"] = o.engine.num_threads;
  json["ops"] = o.engine.op_set == OpSet::kReference ? "reference" : "auto";
  json["activation_recompute"] = ActivationRecomputeSetting(o.engine.activation_recompute);
  json["cuda_graph"] = o.engine.cuda_graph;
  json["deterministic"] = o.engine.deterministic;
  json["out"] = o.directory;
  json["resume"] = ResumeSetting(o);
  json["tp"] = sizes.tp;
  json["cp"] = sizes.cp;
  json["pp"] = sizes.pp;
  json["dp"] = sizes.dp;
  json["sequence_parallel"] = o.engine.sequence_parallel;
  json["cp_comm"] = ContextCommName(o.engine.context_comm);
  json["zero"] = o.engine.gradients.zero;
  json["pp_schedule"] = PipelineKindName(o.engine.pipeline.kind);
  json["pp_chunks"] = o.engine.pipeline.chunks;
  json["pp_in_flight"] = o.engine.pipeline.in_flight;
  json["pp_layers"] = absl::StrJoin(o.engine.pipeline.layers, ",");
  json["grad_reduce_dtype"] = o.engine.gradients.reduce_in_bf16 ? "bf16" : "fp32";
  json["eval_every"] = o.eval_every;
  json["eval_batches"] = o.eval_batches;
  json["sample_every"] = o.sample_every;
  json["save_every"] = o.save_every;
  json["keep_last"] = o.keep_last;
  json["async_save"] = o.async_save;
  json["save_retry"] = o.save_retry_seconds;
  return json;
}

}  // namespace

std::string DTypeSetting(DType dtype) {
  return dtype == DType::kF32 ? "fp32" : dtype == DType::kF64 ? "fp64" : DTypeName(dtype);
}

nlohmann::ordered_json IdentityOf(const TrainerOptions& o, const std::string& data_fingerprint,
                                  DataRules data_rules, const std::string& base_weights) {
  nlohmann::ordered_json identity;
  identity["model"] = *ParseOrderedJson(ToHfConfig(o.engine.model), "config.json");
  identity["train_data"] = data_fingerprint;
  if (!o.train_sources.empty()) identity["blend"] = *Blend::CountsOf(BlendSourcesOf(o));
  if (data_rules != DataRules::kBytesAndEnd) {
    identity[kDataRules] = static_cast<int64_t>(data_rules);
  }
  if (!o.chat_format.empty()) identity[kChatFormat] = o.chat_format;
  // Absent from runs of earlier versions.
  if (o.documents != DocumentMode::kConcat) identity["documents"] = DocumentModeName(o.documents);
  if (o.truncate) identity["truncate"] = o.truncate;
  identity["seed"] = o.seed;
  identity["shuffle"] = o.shuffle;
  identity["seq_len"] = o.engine.seq_len;
  identity["global_batch"] = o.global_batch;
  AddOptimizerSettings(o, &identity);
  if (o.engine.model.lora.enabled()) {
    AddAdapterSettings(o.engine.model, &identity);
    identity[kBaseWeightsKey] = base_weights;
  }
  return identity;
}

DataRules DataRulesOf(const nlohmann::ordered_json& identity) {
  return identity.contains(kDataRules) ? DataRules::kDocuments : DataRules::kBytesAndEnd;
}

std::string ChatFormatOf(const nlohmann::ordered_json& identity) {
  const auto format = identity.find(kChatFormat);
  return format != identity.end() && format->is_string() ? format->get<std::string>() : "";
}

nlohmann::ordered_json ConfigOf(const TrainerOptions& options, const MeshVector& sizes) {
  nlohmann::ordered_json config = nlohmann::ordered_json::object();
  if (!options.program_config.empty()) {
    const auto given = ParseOrderedJson(options.program_config, "program_config");
    CHECK(given.ok() && given->is_object())
        << "[run_settings] no JSON object: " << options.program_config;
    config = *given;
  }
  const nlohmann::ordered_json settings = SettingsOf(options, sizes);
  for (const auto& [key, value] : settings.items()) {
    if (!config.contains(key)) config[key] = value;
  }
  return config;
}

nlohmann::ordered_json SharedSettings(nlohmann::ordered_json config,
                                      const nlohmann::ordered_json& identity) {
  for (const char* key : {"threads", "out", "train_data", "val_data", "init_from", "init_adapter",
                          "model", "tokenizer", "data_cache", "eval_tasks", "skip_data"}) {
    config.erase(key);
  }
  config.update(identity);
  config["program"] = absl::StrCat("strake ", Version(), " (", BuildConfiguration(), ")");
  return config;
}

bool IsResumePath(const std::string& resume) {
  return resume != "auto" && resume != "newest_good" && resume != "never";
}

}  // namespace strake
