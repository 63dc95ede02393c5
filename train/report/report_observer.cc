#include "train/report/report_observer.h"

#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/durable_file.h"
#include "core/base/json.h"
#include "core/base/path_kind.h"
#include "core/base/status_macros.h"
#include "core/base/time_of_day.h"
#include "core/base/version.h"
#include "core/cuda/cuda_runtime.h"
#include "models/families/family.h"
#include "models/model_summary.h"
#include "parallel/comm/collective_stats.h"
#include "parallel/comm/communicator.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine_options.h"
#include "train/engine/layout_summary.h"
#include "train/plan/comm_cost.h"
#include "train/plan/memory_plan.h"
#include "train/run/run_settings.h"
#include "train/run/trainer_options.h"
#include "train/run/training_data.h"

namespace strake {
namespace {

using Json = nlohmann::ordered_json;

int64_t Now() { return static_cast<int64_t>(TimeOfDay()); }

Json MemoryParts(const TrainPlan& plan) {
  const MemoryPlan& memory = plan.memory;
  Json parts = Json::array();
  const auto add = [&](const char* name, size_t bytes) {
    if (bytes > 0) parts.push_back({{"name", name}, {"bytes", bytes}});
  };
  add("weights", memory.parameter_bytes);
  add("gradients", memory.gradient_bytes);
  add("optimizer", memory.optimizer_bytes);
  add("activations", memory.activation_bytes);
  add("libraries", memory.library_bytes);
  add("snapshots of saves", plan.snapshot_bytes);
  return parts;
}

Json Collectives(const TrainPlan& plan) {
  CommCostOptions options{plan.options.engine};
  options.sizes = plan.mesh.sizes();
  const int64_t batch = plan.options.engine.micro_batch * options.sizes.dp;
  options.num_micro_batches = plan.options.global_batch / batch;
  Json rows = Json::array();
  const auto cost = CommCost(options);
  if (!cost.ok()) return rows;
  for (const CommCostRow& row : *cost) {
    rows.push_back({{"phase", CommPhaseName(row.phase)},
                    {"axis", row.axis},
                    {"ranks", row.num_ranks},
                    {"collective", CollectiveName(row.collective)},
                    {"calls", row.calls},
                    {"bytes", row.bytes},
                    {"ring_bytes", row.RingBytes()}});
  }
  return rows;
}

// The free memory of a GPU; 0 where that is not known.
size_t FreeBytes(int gpu) {
  const auto described = DescribeCudaDevice(gpu);
  return described.ok() ? described->free_bytes : 0;
}

const char* KindOf(TrainEnd::Reason reason) {
  return reason == TrainEnd::Reason::kStopRequested ? "stopped" : "finished";
}

}  // namespace

ReportObserver::ReportObserver(std::string machine, int num_ranks, std::optional<int> gpu,
                               std::function<void(const std::string& text)> warn)
    : machine_(std::move(machine)),
      num_ranks_(num_ranks),
      gpu_(gpu),
      free_gpu_bytes_(gpu.has_value() ? FreeBytes(*gpu) : 0),
      warn_(std::move(warn)) {}

absl::Status ReportObserver::OnPlan(const TrainPlan& plan) {
  for (const char* name : {kHistoryName, "report.html"}) {
    const std::string path = absl::StrCat(plan.options.directory, "/", name);
    STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(path));
    if (kind == PathKind::kNothing || plan.holds_run) continue;
    return NotOfThisRun(path);
  }
  const int num_ranks = NumRanks(plan.mesh.sizes());
  flops_per_second_ = plan.options.peak_flops / num_ranks;
  bytes_per_second_ = plan.options.peak_memory_rate / num_ranks;
  report_.num_steps = plan.options.schedule.total_steps;
  report_.config = ConfigOf(plan.options, plan.mesh.sizes());
  communicators_ = plan.communicators;
  const EngineOptions& engine = plan.options.engine;
  Append(
      {{"kind", "plan"},
       {"time", Now()},
       {"version", absl::StrCat("Strake ", Version(), ", ", BuildConfiguration())},
       {"model", absl::StrCat(engine.model.family->display_name, ", ", ModelSummary(engine.model))},
       {"data", plan.data.Summary()},
       {"layout", LayoutSummary(plan.mesh.sizes(), engine)},
       {"machine", machine_},
       {"memory", MemoryParts(plan)},
       {"collectives", Collectives(plan)}});
  return absl::OkStatus();
}

absl::Status ReportObserver::Read() {
  STRAKE_ASSIGN_OR_RETURN(report_.history,
                          ReadRunHistory(absl::StrCat(directory_, "/", kHistoryName)));
  STRAKE_ASSIGN_OR_RETURN(LoggedCurves logged, ReadRunCurves(directory_ + "/metrics.jsonl"));
  report_.curves = std::move(logged.curves);
  return absl::OkStatus();
}

absl::Status ReportObserver::Open() {
  const std::string path = absl::StrCat(directory_, "/", kHistoryName);
  STRAKE_ASSIGN_OR_RETURN(const PathKind kind, PathKindOf(path));
  if (kind == PathKind::kNothing) STRAKE_RETURN_IF_ERROR(WriteFileDurably(path, ""));
  STRAKE_ASSIGN_OR_RETURN(file_, AppendedFile::Open(path, kMaxHistoryBytes));
  // Half a line of a run that was killed is ended, so that the next one is whole.
  return kind == PathKind::kNothing ? absl::OkStatus() : file_->Append("\n");
}

// Only a directory that has run.json holds the run when it is started next, so that nothing is
// written before: files of the report would then be someone else's.
void ReportObserver::Begin() {
  if (gave_up_ || file_.has_value()) return;
  if (const absl::Status opened = Open(); !opened.ok()) return GiveUp(opened);
  for (Json& record : std::exchange(waiting_, {})) Append(std::move(record));
}

absl::Status ReportObserver::OnStart(const TrainStart& start) {
  directory_ = start.directory;
  step_ = start.step;
  report_.name = directory_;
  report_.state = "running";
  for (Json& record : waiting_) {
    if (record.contains("step")) record["step"] = static_cast<uint64_t>(step_);
  }
  const absl::Status read = start.held_run ? Read() : absl::OkStatus();
  if (!read.ok()) GiveUp(read);
  return Log(start.step > 0 ? "resumed" : "started", "");
}

absl::Status ReportObserver::Log(const std::string& kind, const std::string& text) {
  Json record = {{"kind", kind}, {"time", Now()}, {"step", static_cast<uint64_t>(step_)}};
  if (!text.empty()) record["text"] = text;
  Append(std::move(record));
  return absl::OkStatus();
}

// What is told of, as a trace that was written, may have communicated.
absl::Status ReportObserver::Tell(const std::string& kind, const std::string& text) {
  only_step_ = false;
  return Log(kind, text);
}

void ReportObserver::Append(Json record) {
  if (gave_up_) return;
  if (!file_.has_value()) {
    waiting_.push_back(std::move(record));
    return;
  }
  const std::string line = JsonText(record) + "\n";
  // Reads it as the file will be read.
  const auto read = ParseOrderedJson(line, kHistoryName);
  if (read.ok()) report_.history.Add(*read);
  if (const absl::Status status = file_->Append(line); !status.ok()) GiveUp(status);
}

absl::Status ReportObserver::OnStep(const StepMetrics& metrics) {
  Begin();
  if (gave_up_) return absl::OkStatus();
  if (due_) WritePage();
  step_ = metrics.step;
  report_.curves.AddStep(metrics);
  if (!communicators_.empty()) CountStep(metrics.step);
  return absl::OkStatus();
}

ReportObserver::Counts ReportObserver::Communicated() const {
  Counts counts;
  for (const Communicator* group : communicators_) {
    for (int k = 0; k < kNumCollectiveKinds && group->size() > 1; ++k) {
      const auto kind = static_cast<CollectiveKind>(k);
      const CollectiveStats::Entry& entry = group->stats()[kind];
      Count& count = counts[{group->stats_axis(), kind}];
      count.calls += entry.calls;
      count.bytes += entry.bytes;
    }
  }
  return counts;
}

// Records what the first step communicated that no evaluation, sample or save came before.
void ReportObserver::CountStep(int64_t step) {
  const Counts before = std::exchange(counts_, Communicated());
  if (!only_step_.exchange(true)) return;
  Json rows = Json::array();
  for (const auto& [key, after] : counts_) {
    const Count& old = before.at(key);
    if (after.calls == old.calls) continue;
    rows.push_back({{"axis", key.first},
                    {"collective", CollectiveName(key.second)},
                    {"calls", after.calls - old.calls},
                    {"bytes", after.bytes - old.bytes}});
  }
  communicators_.clear();
  if (rows.empty()) return;
  Append({{"kind", "communicated"},
          {"step", static_cast<uint64_t>(step)},
          {"collectives", std::move(rows)}});
}

// The least seconds that an op takes; 0 where that is not known.
double ReportObserver::LimitOf(const OpCost& cost) const {
  const bool is_known = cost.flops == 0 || flops_per_second_ > 0;
  if (!is_known || bytes_per_second_ == 0) return 0;
  const double of_flops = cost.flops > 0 ? cost.flops / flops_per_second_ : 0;
  return std::max(of_flops, cost.bytes / bytes_per_second_);
}

absl::Status ReportObserver::OnOps(const StepOps& ops) {
  Json rows = Json::array();
  for (const auto& [key, entry] : ops.ops) {
    rows.push_back({{"op", key.first},
                    {"pass", PassName(key.second)},
                    {"calls", entry.calls},
                    {"seconds", entry.seconds},
                    {"flops", entry.cost.flops},
                    {"bytes", entry.cost.bytes},
                    {"limit", LimitOf(entry.cost)}});
  }
  Append({{"kind", "ops"},
          {"step", static_cast<uint64_t>(ops.step)},
          {"seconds", ops.seconds},
          {"ops", std::move(rows)}});
  return absl::OkStatus();
}

absl::Status ReportObserver::OnSave(int64_t /*step*/) {
  only_step_ = false;
  return absl::OkStatus();
}

absl::Status ReportObserver::OnEvaluation(const EvalMetrics& metrics) {
  only_step_ = false;
  Begin();
  if (!gave_up_) report_.curves.AddEval(metrics);
  due_ = true;
  return absl::OkStatus();
}

absl::Status ReportObserver::OnTask(const TaskMetrics& metrics) {
  only_step_ = false;
  Begin();
  if (!gave_up_) report_.curves.AddTask(metrics);
  due_ = true;
  return absl::OkStatus();
}

absl::Status ReportObserver::OnSample(const TrainSample& sample) {
  only_step_ = false;
  Begin();
  Append({{"kind", "sample"},
          {"step", static_cast<uint64_t>(sample.step)},
          {"prompt", sample.prompt},
          {"continuation", sample.continuation}});
  due_ = true;
  return absl::OkStatus();
}

absl::Status ReportObserver::OnEnd(const TrainEnd& end) {
  const bool idle = end.reason == TrainEnd::Reason::kNothingToDo;
  if (idle && !due_) return absl::OkStatus();
  Begin();
  step_ = end.step;
  report_.state = KindOf(end.reason);
  if (!idle) {
    STRAKE_RETURN_IF_ERROR(Log(report_.state, ""));
    AppendMemory();
  }
  WritePage();
  return absl::OkStatus();
}

// Observes the memory that is planned: the GPU's where there is one, otherwise the process's.
void ReportObserver::AppendMemory() {
  if (gpu_.has_value()) {
    const size_t now = FreeBytes(*gpu_);
    if (now > 0 && now < free_gpu_bytes_) {
      AppendObserved("taken of the GPU by the end", free_gpu_bytes_ - now);
    }
    return;
  }
  rusage usage = {};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return;
  AppendObserved("most that the process held", static_cast<uint64_t>(usage.ru_maxrss) << 10);
}

void ReportObserver::AppendObserved(const char* what, uint64_t bytes) {
  const std::string of_all =
      num_ranks_ == 1 ? "" : absl::StrCat(", with all of its ", num_ranks_, " ranks");
  Append({{"kind", "memory"},
          {"observed", what + of_all},
          {"bytes", bytes},
          {"ranks", static_cast<uint64_t>(num_ranks_)}});
}

void ReportObserver::WritePage() {
  due_ = false;
  if (gave_up_ || report_.curves.empty()) return;
  const absl::Status status = WriteFileDurably(directory_ + "/report.html", ReportPage({&report_}));
  if (!status.ok()) GiveUp(status);
}

void ReportObserver::GiveUp(const absl::Status& reason) {
  gave_up_ = true;
  file_.reset();
  if (warn_ != nullptr) warn_(absl::StrCat("no report is written any more: ", reason.message()));
}

}  // namespace strake
