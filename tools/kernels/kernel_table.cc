#include "tools/kernels/kernel_table.h"

#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "tools/cli/user_paths.h"

namespace strake {
namespace {

constexpr char kHead[] =
    "# Strake's kernels on an H200. docs/cuda.md, \"What the compiler made\", reads this file.\n"
    "# Written by\n"
    "#   bazel run --config=cuda --@strake_cuda//:architectures=sm_90a //tools:kernel_report -- "
    "--write\n"
    "\n"
    "## Compiled\n"
    "\n"
    "registers  spills  shared  kernel\n";
constexpr char kLaunchHead[] =
    "\n"
    " launches   blocks threads dynamic  at once  limit      warps   waves   last  share  "
    "kernel\n";

constexpr double kSmallShare = 0.01, kHalf = 0.5, kSmallIdle = 0.05;

struct Residence {
  Occupancy occupancy;
  Waves waves;
};

absl::StatusOr<Residence> ResidenceOf(const Launch& launch, const CompiledKernels& compiled) {
  const auto found = compiled.find(launch.kernel);
  if (found == compiled.end()) {
    return absl::NotFoundError(absl::StrCat("nobody knows the registers of ", launch.kernel,
                                            ": build with --config=cuda ",
                                            "--@strake_cuda//:architectures=sm_90a"));
  }
  const CompiledKernel& kernel = found->second;
  Residence residence;
  residence.occupancy =
      H200Occupancy({.threads = launch.threads,
                     .registers = kernel.registers,
                     .shared_bytes = kernel.shared_bytes + launch.dynamic_shared_bytes});
  if (residence.occupancy.blocks == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(launch.kernel, ": a block of ", launch.threads, " threads does not fit on an ",
                     "H200: too little of ", residence.occupancy.limit));
  }
  residence.waves = H200Waves(launch.blocks, residence.occupancy);
  return residence;
}

std::string LaunchLine(const Launch& launch, const LaunchTotals& totals, const Residence& at) {
  return absl::StrFormat("%9d %8d %7d %7d %8d  %-9s %5.1f%% %7.2f %5.1f%% %5.1f%%  %s\n",
                         totals.times, launch.blocks, launch.threads, launch.dynamic_shared_bytes,
                         at.occupancy.blocks, at.occupancy.limit, 100 * at.occupancy.warps,
                         at.waves.count, 100 * at.waves.last, 100 * totals.share, launch.kernel);
}

bool LeavesIdle(const LaunchTotals& totals, const Waves& waves) {
  return totals.share >= kSmallShare && waves.count > 1 && waves.last < kHalf &&
         waves.idle() >= kSmallIdle;
}

}  // namespace

absl::StatusOr<std::string> KernelTableText(const KernelTable& table) {
  std::string text = kHead;
  for (const auto& [name, kernel] : table.compiled) {
    absl::StrAppendFormat(&text, "%9d %7d %7d  %s\n", kernel.registers, kernel.spill_bytes,
                          kernel.shared_bytes, name);
  }
  for (const StepLaunches& step : table.steps) {
    absl::StrAppendFormat(&text, "\n## %s, %d x %d tokens\n%s", step.step.name,
                          step.step.micro_batch, step.step.seq_len, kLaunchHead);
    for (const auto& [launch, totals] : step.launches) {
      STRAKE_ASSIGN_OR_RETURN(const Residence at, ResidenceOf(launch, table.compiled));
      text += LaunchLine(launch, totals, at);
    }
  }
  return text;
}

absl::StatusOr<CompiledKernels> CompiledKernelsOf(absl::string_view table_text) {
  CompiledKernels compiled;
  if (!absl::ConsumePrefix(&table_text, kHead)) {
    return absl::InvalidArgumentError("the table does not begin as it is written");
  }
  for (const absl::string_view line : absl::StrSplit(table_text, '\n')) {
    if (line.empty()) break;
    std::istringstream words{std::string(line)};
    std::string name;
    CompiledKernel kernel;
    words >> kernel.registers >> kernel.spill_bytes >> kernel.shared_bytes >> std::ws;
    if (!std::getline(words, name)) {
      return absl::InvalidArgumentError(absl::StrCat("not a line of a compiled kernel: ", line));
    }
    compiled[name] = kernel;
  }
  return compiled;
}

absl::StatusOr<KernelTable> CurrentKernelTable(absl::string_view committed) {
  STRAKE_ASSIGN_OR_RETURN(const std::string path, RunfilePath("tools/kernels/ptxas.txt"));
  STRAKE_ASSIGN_OR_RETURN(const std::string ptxas, ReadFile(path));
  KernelTable table;
  STRAKE_ASSIGN_OR_RETURN(table.compiled, ParsePtxas(ptxas, "sm_90a"));
  if (table.compiled.empty()) {
    STRAKE_ASSIGN_OR_RETURN(table.compiled, CompiledKernelsOf(committed));
  }
  for (const Step& step : H200Steps()) {
    STRAKE_ASSIGN_OR_RETURN(StepLaunches launches, RecordStepLaunches(step));
    table.steps.push_back(std::move(launches));
  }
  return table;
}

std::vector<std::string> KernelFaults(const KernelTable& table) {
  std::vector<std::string> faults;
  for (const auto& [name, kernel] : table.compiled) {
    if (kernel.spill_bytes == 0) continue;
    faults.push_back(absl::StrCat(name, " spills: ", kernel.spill_bytes, " bytes"));
  }
  for (const StepLaunches& step : table.steps) {
    for (const auto& [launch, totals] : step.launches) {
      const auto at = ResidenceOf(launch, table.compiled);
      if (!at.ok() || !LeavesIdle(totals, at->waves)) continue;
      faults.push_back(absl::StrFormat(
          "%s, %s: %d blocks, %d at once on a multiprocessor, run in %.2f waves; the last is "
          "%.0f%% full, and %.0f%% of the time of up to %.1f%% of the step is idle",
          step.step.name, launch.kernel, launch.blocks, at->occupancy.blocks, at->waves.count,
          100 * at->waves.last, 100 * at->waves.idle(), 100 * totals.share));
    }
  }
  return faults;
}

}  // namespace strake
