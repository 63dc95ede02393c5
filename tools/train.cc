// Trains a model: `bazel run //tools:train -- --help`.

#include <unistd.h>

#include <iostream>
#include <memory>

#include "core/base/status_macros.h"
#include "tools/cli/layout.h"
#include "tools/cli/machine.h"
#include "tools/cli/program.h"
#include "tools/cli/run_on_ranks.h"
#include "tools/cli/stop_signal.h"
#include "tools/cli/train_config.h"
#include "tools/cli/user_paths.h"
#include "train/engine/engine_options.h"
#include "train/plan/memory_plan.h"
#include "train/run/trainer.h"

namespace strake {
namespace {

absl::Status Train(int argc, char** argv) {
  ChangeToUserDirectory();
  STRAKE_ASSIGN_OR_RETURN(const TrainCommand command, ParseTrainCommand(argc, argv));
  if (command.show_help) {
    std::cout << command.help;
    return FlushStdout();
  }
  if (command.print_config) {
    std::cout << ToJson(command.config).dump(2) << "\n";
    return FlushStdout();
  }
  InstallStopSignal();
  const LayoutConfig& layout = command.config.layout;
  STRAKE_RETURN_IF_ERROR(CheckMemory(EngineOptionsOf(command.config, command.model), layout.sizes(),
                                     NumRanksInMemory(command.config.machine, layout)));
  return RunOnRanks(layout, [&](const Mesh& mesh) -> absl::Status {
    const bool prints = mesh.rank() == 0;
    std::ostream nowhere(nullptr);
    // mpirun passes a terminal's lines on, and no bar.
    const bool bar = prints && layout.comm == "threads";
    Progress screen(prints ? &std::cout : &nowhere, bar ? TerminalColumns(STDOUT_FILENO) : 0);
    STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer,
                            Trainer::Create(command, mesh, &screen));
    return trainer->Run();
  });
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) {
  strake::OpenStandardStreams();
  if (strake::HasVersionFlag(argc, argv)) return strake::PrintVersion();
  return strake::ExitCode(strake::Train(argc, argv));
}
