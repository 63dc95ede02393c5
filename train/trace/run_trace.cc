#include "train/trace/run_trace.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/durable_file.h"
#include "core/base/path_kind.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "parallel/comm/communicator.h"
#include "train/engine/mesh_wide.h"

namespace strake {
namespace {

// The slices that all ranks keep together, in about 160 MB of JSON, and that each keeps where ranks
// are many: those of a step at least.
constexpr int64_t kMaxSlices = int64_t{1} << 20;
constexpr int64_t kMinSlices = int64_t{1} << 14;

// Differs from machine to machine, and from boot to boot; "" where the system does not tell.
std::string MachineName() {
  const auto id = ReadFile("/proc/sys/kernel/random/boot_id");
  return id.ok() ? id->substr(0, id->find('\n')) : "";
}

absl::Status WriteEvents(const std::string& path, std::string events) {
  events.insert(0, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
  events += "\n]}\n";
  STRAKE_RETURN_IF_ERROR(MakeDirectoriesDurably(FolderOf(path)));
  return WriteFileDurably(path, events);
}

StepTrace::Options OptionsOf(const Mesh& mesh, Engine& engine) {
  StepTrace::Options options = {.rank = mesh.rank(),
                                .max_slices = std::max(kMinSlices, kMaxSlices / mesh.num_ranks())};
  if (engine.cuda() != nullptr) options.stream = engine.cuda()->stream();
  return options;
}

}  // namespace

RunTrace::RunTrace(int64_t first, int64_t last, const Mesh& mesh, Engine& engine)
    : first_(first), last_(last), mesh_(mesh), engine_(engine), trace_(OptionsOf(mesh, engine)) {}

absl::StatusOr<std::unique_ptr<RunTrace>> RunTrace::Create(int64_t first, int64_t last,
                                                           const Mesh& mesh, Engine& engine) {
  std::unique_ptr<RunTrace> trace(new RunTrace(first, last, mesh, engine));
  STRAKE_RETURN_IF_ERROR(trace->SetOrigin());
  return trace;
}

// The origin on another machine is when rank 0's message came.
absl::Status RunTrace::SetOrigin() {
  const std::string machine = MachineName();
  std::string text = absl::StrCat(machine, " ", SteadyNanoseconds());
  STRAKE_RETURN_IF_ERROR(BroadcastText(mesh_, &text));
  const std::vector<std::string> words = absl::StrSplit(text, ' ');
  origin_ = SteadyNanoseconds();
  int64_t of_rank_0 = 0;
  if (!machine.empty() && words[0] == machine && absl::SimpleAtoi(words[1], &of_rank_0)) {
    origin_ = of_rank_0;
  }
  return absl::OkStatus();
}

void RunTrace::Observe(OpProfile* profile) {
  engine_.set_profile(profile);
  if (engine_.cuda() == nullptr) return;
  mesh_.gradient_group().set_timings(profile != nullptr ? trace_.dp_timings() : nullptr);
  mesh_.communicator(MeshAxis::kTp).set_timings(profile != nullptr ? trace_.tp_timings() : nullptr);
}

absl::Status RunTrace::BeginStep(int64_t step) {
  if (step < first_ || step > last_) return absl::OkStatus();
  if (first_traced_ == 0) first_traced_ = step;
  last_traced_ = step;
  STRAKE_RETURN_IF_ERROR(trace_.BeginStep(step));
  Observe(&trace_);
  return absl::OkStatus();
}

absl::Status RunTrace::EndStep(int64_t step) {
  if (step != last_traced_) return absl::OkStatus();
  Observe(nullptr);
  return trace_.EndStep();
}

bool RunTrace::IsReady(int64_t step, bool ended) const {
  return last_traced_ > 0 && !written_ && (ended || step >= last_);
}

std::string RunTrace::PathIn(const std::string& directory) const {
  return absl::StrCat(directory, "/trace/steps_", first_traced_, "-", last_traced_, ".json");
}

absl::StatusOr<TraceFile> RunTrace::Write(const std::string& directory) {
  written_ = true;
  TraceFile file = {.path = PathIn(directory), .max_slices = trace_.max_slices()};
  STRAKE_ASSIGN_OR_RETURN(file.is_cut, AnyRank(mesh_, trace_.num_dropped() > 0));
  std::string text = trace_.EventsJson(origin_);
  trace_.Clear();
  STRAKE_RETURN_IF_ERROR(GatherText(mesh_, ",\n", &text));
  if (mesh_.rank() == 0) file.status = WriteEvents(file.path, std::move(text));
  return file;
}

}  // namespace strake
