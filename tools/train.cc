// Trains a model: `bazel run //tools:train -- --help`.

#include <unistd.h>

#include <iostream>
#include <memory>

#include "tools/program.h"
#include "tools/stop_signal.h"
#include "tools/train_config.h"
#include "tools/trainer.h"
#include "tools/user_paths.h"

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
  Progress screen(&std::cout, TerminalColumns(STDOUT_FILENO));
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer,
                          Trainer::Create(command, &screen));
  return trainer->Run();
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) {
  strake::OpenStandardStreams();
  return strake::ExitCode(strake::Train(argc, argv));
}
