// Trains a model: `bazel run //tools:train -- --help`.

#include <unistd.h>

#include <atomic>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/format_quantity.h"
#include "core/base/json.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "tools/cli/engine_flags.h"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "tools/cli/peak_rates.h"
#include "tools/cli/program.h"
#include "tools/cli/progress.h"
#include "tools/cli/run_on_ranks.h"
#include "tools/cli/screen_observer.h"
#include "tools/cli/stop_signal.h"
#include "tools/cli/train_config.h"
#include "tools/cli/user_paths.h"
#include "train/plan/memory_plan.h"
#include "train/report/report_observer.h"
#include "train/run/metrics_observer.h"
#include "train/run/train_observer.h"
#include "train/run/trainer.h"
#include "train/tensorboard/tensorboard_observer.h"

namespace strake {
namespace {

// The exit code of a run that was stopped before its end, so that `train && next` can tell.
constexpr int kStopped = 3;

absl::StatusOr<int> Train(int argc, char** argv) {
  ChangeToUserDirectory();
  STRAKE_ASSIGN_OR_RETURN(TrainCommand command, ParseTrainCommand(argc, argv));
  if (command.show_help) {
    std::cout << command.help;
    STRAKE_RETURN_IF_ERROR(FlushStdout());
    return 0;
  }
  if (command.print_config) {
    std::cout << JsonText(ToJson(command.config), 2) << "\n";
    STRAKE_RETURN_IF_ERROR(FlushStdout());
    return 0;
  }
  const TrainConfig& config = command.config;
  const LayoutConfig& layout = config.layout;
  STRAKE_ASSIGN_OR_RETURN(TrainerOptions options, TrainerOptionsOf(command));
  InstallStopSignal();
  options.stop_requested = [] { return StopRequested() != 0; };
  STRAKE_RETURN_IF_ERROR(CheckMemoryOfFlags(options.engine, config.machine, layout));
  if (options.async_save && !HasMemoryForSnapshots(options.engine, layout.sizes(),
                                                   NumRanksInMemory(config.machine, layout))) {
    options.async_save = false;
    command.notices.push_back(
        absl::StrCat("saves stop the run: there is no memory for snapshots of ",
                     FormatBytes(SnapshotBytes(options.engine)), " beside it"));
  }
  std::atomic<bool> stopped = false;
  STRAKE_RETURN_IF_ERROR(RunOnRanks(layout, [&](const Mesh& mesh) -> absl::Status {
    const bool prints = mesh.rank() == 0;
    // mpirun passes on lines of output, but no progress bar.
    const bool bar = prints && layout.comm == "threads";
    Progress screen(STDOUT_FILENO);
    if (!bar) screen.ShowNoBar();
    screen.set_quiet(config.quiet);
    std::optional<ProgressTicker> ticker;
    if (prints) ticker.emplace(&screen);
    for (const std::string& notice : command.notices) {
      if (prints) screen.PrintNote(notice);
    }
    const auto warn = [&](const std::string& text) { screen.Print("warning: " + Printable(text)); };
    MetricsObserver metrics(warn);
    TensorBoardObserver tensorboard(warn);
    ScreenObserver lines(command, &screen);
    std::optional<int> gpu;
    if (config.machine.device_kind() == Device::kCuda && prints) gpu = CudaDeviceOf(layout);
    ReportObserver report(MachineText(config.machine, layout),
                          layout.comm == "threads" ? NumRanks(layout.sizes()) : 1, gpu, warn);
    std::vector<TrainObserver*> observers = {&metrics, &lines, &report};
    if (config.tensorboard) observers.insert(observers.begin() + 1, &tensorboard);
    TrainerOptions of_rank = options;
    // The metrics are the first rank's.
    if (mesh.rank() == 0) {
      of_rank.peak_flops = PeakFlops(config.machine, layout);
      of_rank.peak_memory_rate = PeakMemoryRate(config.machine, layout);
    }
    auto created = Trainer::Create(of_rank, mesh, observers);
    if (absl::IsCancelled(created.status())) {
      // On all ranks. Before the first step there is nothing else to save.
      if (prints) {
        screen.Print(
            "stopped by a signal while text was prepared; the same command goes on from there");
      }
      stopped = true;
      return absl::OkStatus();
    }
    STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, std::move(created));
    STRAKE_ASSIGN_OR_RETURN(const TrainEnd end, trainer->Run());
    if (end.reason == TrainEnd::Reason::kStopRequested) stopped = true;
    return absl::OkStatus();
  }));
  return stopped && !config.exit_zero_on_stop ? kStopped : 0;
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ProgramMain(argc, argv, strake::Train); }
