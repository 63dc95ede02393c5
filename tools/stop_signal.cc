#include "tools/stop_signal.h"

#include <signal.h>
#include <unistd.h>

namespace strake {
namespace {

volatile sig_atomic_t stop_signal = 0;

void OnStopSignal(int number) {
  if (stop_signal != 0 && stop_signal != SIGPIPE) _exit(128 + number);
  stop_signal = number;
}

// Ctrl-C ends `tee` in a pipeline, too: what is printed from then on must not end the process.
void OnClosedPipe(int number) {
  if (stop_signal == 0) stop_signal = number;
}

}  // namespace

void InstallStopSignal() {
  struct sigaction action = {};
  action.sa_handler = OnStopSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = OnClosedPipe;
  sigaction(SIGPIPE, &action, nullptr);
}

int StopRequested() { return stop_signal; }

}  // namespace strake
