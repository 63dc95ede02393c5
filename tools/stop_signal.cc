#include "tools/stop_signal.h"

#include <signal.h>
#include <unistd.h>

namespace strake {
namespace {

volatile sig_atomic_t stop_signal = 0;

void OnStopSignal(int number) {
  if (stop_signal == SIGINT || stop_signal == SIGTERM) _exit(128 + number);
  stop_signal = number;
}

// SIGPIPE, too: Ctrl-C ends `tee` in a pipeline, and what is printed from then on must not end the
// process.
void OnStopRequest(int number) {
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
  action.sa_handler = OnStopRequest;
  sigaction(SIGUSR1, &action, nullptr);
  sigaction(SIGPIPE, &action, nullptr);
}

int StopRequested() { return stop_signal; }

}  // namespace strake
